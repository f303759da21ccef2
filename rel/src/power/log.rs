//! What a process did to files and sockets, in order, from the log of `strace -f -yy -xx`.

use anyhow::Context;
use std::collections::BTreeMap;

/// The calls that are read here.
pub(crate) const CALLS: &str =
    "openat,pwrite64,write,writev,sendto,sendmsg,fsync,fdatasync,ftruncate,unlink,rename,mkdir";

/// One thing that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A file came to be, or was emptied.
    Opened {
        path: String,
        emptied: bool,
    },
    /// Bytes were written, at the end where no place is given.
    Written {
        path: String,
        at: Option<usize>,
        bytes: Vec<u8>,
    },
    /// A file was cut or extended.
    Cut {
        path: String,
        to: usize,
    },
    Unlinked {
        path: String,
    },
    Renamed {
        from: String,
        to: String,
    },
    DirectoryMade {
        path: String,
    },
    /// What was done to a file, or to the names in a directory, is on stable storage.
    Synced {
        path: String,
    },
    /// Bytes went to a socket.
    Sent {
        socket: String,
        bytes: Vec<u8>,
    },
}

/// Reads a log. A call takes effect when it begins, but for a sync, which is one only when it returns; a call that
/// failed did nothing.
pub(crate) fn read(lines: &[String]) -> anyhow::Result<Vec<Event>> {
    let mut events: Vec<Option<Event>> = Vec::new();
    let mut open: BTreeMap<&str, (usize, String)> = BTreeMap::new();
    for line in lines {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
            let event = event_of(begun).with_context(|| begun.to_owned())?;
            open.insert(thread, (events.len(), begun.to_owned()));
            events.push(event.filter(|event| !matches!(event, Event::Synced { .. })));
        } else if rest.starts_with("<... ") {
            let Some((at, begun)) = open.remove(thread) else { continue };
            if failed(rest) {
                if let Some(event) = events.get_mut(at) {
                    *event = None;
                }
            } else if let Some(event @ Event::Synced { .. }) = event_of(&begun)? {
                events.push(Some(event));
            }
        } else if !failed(rest) {
            events.push(event_of(rest).with_context(|| rest.to_owned())?);
        }
    }
    Ok(events.into_iter().flatten().collect())
}

fn failed(line: &str) -> bool {
    line.rsplit_once(" = ").is_some_and(|(_, result)| result.starts_with('-'))
}

fn event_of(line: &str) -> anyhow::Result<Option<Event>> {
    let Some((call, arguments)) = line.split_once('(') else { return Ok(None) };
    let texts = || -> anyhow::Result<Vec<Vec<u8>>> {
        arguments.split('"').skip(1).step_by(2).map(bytes_of).collect()
    };
    let path = |at: usize| -> anyhow::Result<String> {
        Ok(String::from_utf8(texts()?.into_iter().nth(at).context("no path")?)?)
    };
    // The last of the arguments, before what the call returned.
    let number = || -> anyhow::Result<usize> {
        let (arguments, _) = arguments.rsplit_once(')').unwrap_or((arguments, ""));
        Ok(arguments.rsplit(", ").next().unwrap_or_default().parse()?)
    };
    Ok(match call {
        "openat" if arguments.contains("O_CREAT") => {
            Some(Event::Opened { path: path(0)?, emptied: arguments.contains("O_TRUNC") })
        }
        "unlink" => Some(Event::Unlinked { path: path(0)? }),
        "rename" => Some(Event::Renamed { from: path(0)?, to: path(1)? }),
        "mkdir" => Some(Event::DirectoryMade { path: path(0)? }),
        "fsync" | "fdatasync" => file(arguments)?.map(|path| Event::Synced { path }),
        "ftruncate" => match file(arguments)? {
            Some(path) => Some(Event::Cut { path, to: number()? }),
            None => None,
        },
        "pwrite64" | "write" | "writev" | "sendto" | "sendmsg" => {
            let bytes = texts()?.concat();
            match file(arguments)? {
                Some(path) if call == "pwrite64" => {
                    Some(Event::Written { path, at: Some(number()?), bytes })
                }
                Some(path) => Some(Event::Written { path, at: None, bytes }),
                None => socket(arguments).map(|socket| Event::Sent { socket, bytes }),
            }
        }
        _ => None,
    })
}

/// The file that a descriptor stands for.
fn file(arguments: &str) -> anyhow::Result<Option<String>> {
    let Some((_, decorated)) = arguments.split_once('<') else { return Ok(None) };
    let end = decorated.find(|sign: char| !sign.is_ascii_hexdigit() && sign != '\\' && sign != 'x');
    let (path, _) = decorated.split_at(end.unwrap_or(decorated.len()));
    if path.is_empty() || !path.starts_with('\\') {
        return Ok(None);
    }
    let path = String::from_utf8(bytes_of(path)?)?;
    Ok(path.starts_with('/').then_some(path))
}

fn socket(arguments: &str) -> Option<String> {
    let (_, decorated) = arguments.split_once('<')?;
    let (socket, _) = decorated.split_once("]>")?;
    socket.starts_with("TCP").then(|| socket.to_owned())
}

/// `\x2f\x74` and so on.
fn bytes_of(text: &str) -> anyhow::Result<Vec<u8>> {
    let digits = text.split("\\x").skip(1);
    digits.map(|digits| Ok(u8::from_str_radix(digits, 16)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(lines: &[&str]) -> Vec<Event> {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        read(&lines).unwrap()
    }

    #[test]
    fn calls_are_read_in_the_order_in_which_they_take_effect() {
        let path = "/a".to_owned();
        let read = events(&[
            r#"7  openat(AT_FDCWD<\x2f>, "\x2f\x61", O_RDWR|O_CREAT, 0644) = 3<\x2f\x61>"#,
            r#"7  fsync(3<\x2f\x61> <unfinished ...>"#,
            r#"8  pwrite64(3<\x2f\x61>, "\x01\x02", 2, 512) = 2"#,
            r#"7  <... fsync resumed>)             = 0"#,
            r#"8  writev(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, [{iov_base="\x81", iov_len=1}, {iov_base="\x00", iov_len=1}], 2) = 2"#,
            r#"8  ftruncate(3<\x2f\x61>, 5) = -1 EIO (Input/output error)"#,
            r#"8  ftruncate(3<\x2f\x61>, 6) = 0"#,
            r#"8  write(2<\x2f\x64\x65\x76<char 1:3>>, "\x0a", 1) = 1"#,
        ]);
        let expected = [
            Event::Opened { path: path.clone(), emptied: false },
            Event::Written { path: path.clone(), at: Some(512), bytes: vec![1, 2] },
            Event::Synced { path: path.clone() },
            Event::Sent { socket: "TCP:[127.0.0.1:1->127.0.0.1:2".into(), bytes: vec![0x81, 0] },
            Event::Cut { path, to: 6 },
            Event::Written { path: "/dev".into(), at: None, bytes: vec![10] },
        ];
        assert_eq!(read, expected);
    }
}
