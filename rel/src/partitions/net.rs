//! A network that really loses what is sent: a namespace of its own, and rules in it that drop packets.

use crate::tool::{Missing, find};
use anyhow::{Context, ensure};
use std::{
    net::Ipv4Addr,
    path::PathBuf,
    process::{Command, Stdio},
};

/// Which packets are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Those to the server.
    ToServer,
    /// Those of the server.
    FromServer,
    /// All.
    Both,
}

impl Lost {
    const fn sets(self) -> &'static [&'static str] {
        match self {
            Self::ToServer => &["lost_in"],
            Self::FromServer => &["lost_out"],
            Self::Both => &["lost_in", "lost_out"],
        }
    }
}

/// The namespace, and the pair of interfaces that joins it to this one.
#[derive(Debug)]
pub(crate) struct Network {
    name: String,
    ip: PathBuf,
    nft: PathBuf,
    block: u8,
}

/// Addresses of a network, beside our own.
const ADDRESSES: u8 = 250;

impl Network {
    /// Needs root, `ip` and `nft`.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let id = std::process::id();
        let block = u8::try_from(id % 200)?;
        let (ip, nft) = (find("ip", "iproute2")?, find("nft", "nftables")?);
        let network = Self { name: format!("rejoin-rel-{id}"), ip, nft, block };
        let name = &network.name;
        let (ours, theirs) = (format!("rjo{id}"), format!("rjt{id}"));
        network.ip(&["netns", "add", name]).context(Missing::new(
            "the right to make a network namespace is missing: run it as root, in a container with \
             --cap-add SYS_ADMIN --cap-add NET_ADMIN",
        ))?;
        network
            .ip(&["link", "add", &ours, "type", "veth", "peer", "name", &theirs, "netns", name])?;
        let address = format!("{}/24", network.address(0));
        network.ip(&["address", "add", &address, "dev", &ours])?;
        network.ip(&["link", "set", &ours, "up"])?;
        for at in 1..=ADDRESSES {
            let address = format!("{}/24", network.address(at));
            network.ip(&["-n", name, "address", "add", &address, "dev", &theirs])?;
        }
        network.ip(&["-n", name, "link", "set", &theirs, "up"])?;
        network.nft(
            "add table ip rel; \
             add set ip rel lost_in { type ipv4_addr; }; \
             add set ip rel lost_out { type ipv4_addr; }; \
             add chain ip rel in { type filter hook input priority 0; }; \
             add chain ip rel out { type filter hook output priority 0; }; \
             add rule ip rel in ip daddr @lost_in drop; \
             add rule ip rel out ip saddr @lost_out drop;",
        )?;
        Ok(network)
    }

    /// One of the server's addresses, from 1 on; all lead to the same server.
    pub(crate) const fn address(&self, at: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 231, self.block, at + 1)
    }

    /// What a command begins with that runs in it.
    pub(crate) fn runner(&self) -> Vec<String> {
        let ip = self.ip.to_string_lossy().into_owned();
        [ip, "netns".into(), "exec".into(), self.name.clone()].into()
    }

    /// From now on packets of this address are lost.
    pub(crate) fn cut(&self, address: Ipv4Addr, lost: Lost) -> anyhow::Result<()> {
        self.change("add", address, lost)
    }

    /// From now on they arrive again.
    pub(crate) fn heal(&self, address: Ipv4Addr, lost: Lost) -> anyhow::Result<()> {
        self.change("delete", address, lost)
    }

    fn change(&self, verb: &str, address: Ipv4Addr, lost: Lost) -> anyhow::Result<()> {
        let change = |set: &&str| format!("{verb} element ip rel {set} {{ {address} }};");
        self.nft(&lost.sets().iter().map(change).collect::<String>())
    }

    fn ip(&self, arguments: &[&str]) -> anyhow::Result<()> {
        run(Command::new(&self.ip).args(arguments))
    }

    fn nft(&self, script: &str) -> anyhow::Result<()> {
        let mut command = Command::new(&self.ip);
        run(command.args(["netns", "exec", &self.name]).arg(&self.nft).arg(script))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The interfaces go with it. If it cannot be removed, it is in nobody's way.
        self.ip(&["netns", "delete", &self.name]).ok();
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(())
}
