//! `probe`: asks the server on this machine whether it is ready, for whoever has no other program to ask with.

use super::{CommandError, say};
use crate::Config;
use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

/// What takes longer counts as not ready.
const PATIENCE: Duration = Duration::from_secs(4);
/// Longer than any answer.
const ANSWER_BYTES_MAX: u64 = 16 << 10;

pub(crate) fn run(config: &Config) -> Result<(), CommandError> {
    let address = match (config.operations.metrics_listen, &config.tls) {
        (Some(address), _) => address,
        (None, None) => config.listen,
        (None, Some(_)) => return Err(CommandError::ProbeOverTls),
    };
    let address = SocketAddr::new(here(address.ip()), address.port());
    let unreachable = |source| CommandError::Unreachable { address, source };
    let answer = ask(address).map_err(unreachable)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body.trim());
    if answer.split(' ').nth(1) == Some("200") {
        return say(format_args!("{body}"));
    }
    Err(CommandError::NotReady(body.to_owned()))
}

/// Where whoever listens everywhere is found.
const fn here(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        IpAddr::V4(_) | IpAddr::V6(_) => address,
    }
}

fn ask(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}
