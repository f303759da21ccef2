//! Certificate authorities of the user's own.
//!
//! Absent: a way not to check: a server that cannot be told from another is none.

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::{path::Path, sync::Arc};

/// Why a file of authorities cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthoritiesError {
    #[error("{0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    #[error("{0}")]
    Certificate(#[from] rustls::Error),
    #[error("there is no certificate in it")]
    Empty,
}

/// A configuration that trusts the authorities of a PEM file and no others.
pub(crate) fn trusting(file: &Path) -> Result<Arc<ClientConfig>, AuthoritiesError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file)? {
        roots.add(certificate?)?;
    }
    if roots.is_empty() {
        return Err(AuthoritiesError::Empty);
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
