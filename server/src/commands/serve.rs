//! `serve`: the server itself.

use super::CommandError;
use crate::{Config, Server, shutdown, telemetry};
use tracing::info;

pub(crate) fn run(config: Config) -> Result<(), CommandError> {
    let _log = telemetry::start(&config)?;
    info!("configuration: {config}");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(CommandError::Runtime)?;
    let served = runtime.block_on(async {
        let server = Server::open(config).await?;
        let asked = shutdown::asked();
        let shutdown = async {
            if let Err(error) = asked.await {
                tracing::error!(%error, "cannot wait for signals, stopping");
            }
        };
        server.run(shutdown).await?;
        Ok(())
    });
    // The database is closed: what still waits for somebody else's answer may end with the process.
    runtime.shutdown_background();
    served
}
