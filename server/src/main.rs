//! The sync server of Rejoin: `rejoin-server --help`.

use anyhow::Context;
use rejoin_server::{Config, Server, Settings, shutdown, telemetry};
use tracing::info;

fn main() -> anyhow::Result<()> {
    let config = Config::load(Settings::read()?)?;
    telemetry::start(&config).with_context(|| format!("--log {}", config.log))?;
    info!("configuration: {config}");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = Server::open(config).await?;
        let asked = shutdown::asked();
        let shutdown = async {
            if let Err(error) = asked.await {
                tracing::error!(%error, "cannot wait for signals, stopping");
            }
        };
        server.run(shutdown).await?;
        anyhow::Ok(())
    })?;
    Ok(())
}
