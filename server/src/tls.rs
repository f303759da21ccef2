//! TLS, where no proxy does it: a certificate and its key, read again when they change.
//!
//! Invariant: what is shown to clients is the last pair that was good; a pair of which one half was replaced is none,
//! and is logged once. Absent: getting certificates.

use crate::config::TlsFiles;
use std::{
    fmt, fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, task::spawn_blocking, time::sleep};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::ring,
        pki_types::{
            CertificateDer, PrivateKeyDer,
            pem::{self, PemObject},
        },
    },
};
use tracing::{error, info};

/// How soon a change of the files is noticed, without SIGHUP.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not PEM, or lacks what it should have.
    #[error("{path}: {source}")]
    Pem {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// There is no certificate in the file.
    #[error("{path}: there is no certificate in it")]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// The certificate and the key are not of each other, or not of a kind that is known.
    #[error("the certificate in {path} and its key: {source}")]
    Pair {
        /// The file of the certificate.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// A certificate and its key.
pub(crate) struct Tls {
    files: TlsFiles,
    held: Mutex<Held>,
}

struct Held {
    acceptor: TlsAcceptor,
    /// What was read last, good or not; `None` where it could not be read.
    seen: Option<blake3::Hash>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads both files.
    pub(crate) fn open(files: &TlsFiles) -> Result<Self, TlsError> {
        let (certificate, key) = read(files)?;
        let acceptor = acceptor(files, &certificate, &key)?;
        let held = Held { acceptor, seen: Some(digest(&certificate, &key)) };
        Ok(Self { files: files.clone(), held: Mutex::new(held) })
    }

    /// Greets clients by the pair that was last good.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.held().acceptor.clone()
    }

    /// Reads both files again; whether they are another pair than before. Blocks.
    fn look(&self) -> Result<bool, TlsError> {
        let found = read(&self.files);
        let seen = found.as_ref().ok().map(|(certificate, key)| digest(certificate, key));
        if self.held().seen == seen {
            return Ok(false);
        }
        self.held().seen = seen;
        let (certificate, key) = found?;
        let acceptor = acceptor(&self.files, &certificate, &key)?;
        self.held().acceptor = acceptor;
        Ok(true)
    }

    /// Looks at the files now and then, and at SIGHUP, until the server stops.
    pub(crate) async fn keep(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        let mut asked = Asked::new();
        loop {
            tokio::select! {
                // Who would say it is gone: that is the end too.
                _ = stopping.wait_for(|stopping| *stopping) => return,
                () = sleep(LOOK_EVERY) => {}
                () = asked.next() => {}
            }
            let tls = Arc::clone(&self);
            match spawn_blocking(move || tls.look()).await {
                Ok(Ok(true)) => info!("the certificate was replaced"),
                Ok(Ok(false)) => {}
                Ok(Err(fault)) => error!(%fault, "the certificate is still the one before"),
                Err(panic) => error!(%panic, "reading the certificate has stopped by a defect"),
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Requests to read the files again.
struct Asked {
    #[cfg(unix)]
    hangups: Option<tokio::signal::unix::Signal>,
}

impl Asked {
    fn new() -> Self {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            // Without it a change is noticed a little later.
            Self { hangups: signal(SignalKind::hangup()).ok() }
        }
        #[cfg(not(unix))]
        Self {}
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(hangups) = &mut self.hangups
            && hangups.recv().await.is_some()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

fn read(files: &TlsFiles) -> Result<(Vec<u8>, Vec<u8>), TlsError> {
    let read = |path: &PathBuf| {
        fs::read(path).map_err(|source| TlsError::Unreadable { path: path.clone(), source })
    };
    Ok((read(&files.certificate)?, read(&files.key)?))
}

fn digest(certificate: &[u8], key: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(blake3::hash(certificate).as_bytes());
    hasher.update(blake3::hash(key).as_bytes());
    hasher.finalize()
}

fn acceptor(files: &TlsFiles, certificate: &[u8], key: &[u8]) -> Result<TlsAcceptor, TlsError> {
    let path = files.certificate.clone();
    let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|source| TlsError::Pem { path: path.clone(), source })?;
    if chain.is_empty() {
        return Err(TlsError::Empty { path });
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|source| TlsError::Pem { path: files.key.clone(), source })?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|source| TlsError::Pair { path, source })?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
