//! A file system of which only what was synced is sure, and what a power loss may leave of it.
//!
//! Stricter than the usual ones: the name of a file is sure only once its directory was synced, and what was
//! written between two syncs may come in any order, sector by sector. Names change in the order of their changes,
//! as journals keep them.

use super::log::Event;
use rejoin_core::testing::rng::Rng;
use std::{collections::BTreeMap, fs, io, path::Path};

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// How much of what was not synced is there after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Damage {
    /// Nothing.
    Dropped,
    /// Some sectors of some writes, and the first changes of names.
    Random,
    /// Everything, but for the end of the last write.
    Torn,
}

pub(crate) const DAMAGES: [Damage; 3] = [Damage::Dropped, Damage::Random, Damage::Torn];

#[derive(Debug, Clone)]
enum Change {
    Written { at: usize, bytes: Vec<u8> },
    Cut { to: usize },
}

#[derive(Debug, Clone, Default)]
struct File {
    sure: Vec<u8>,
    unsure: Vec<Change>,
    /// With all changes.
    length: usize,
    is_directory: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Naming {
    Linked { path: String, file: usize },
    Unlinked { path: String },
    Renamed { from: String, to: String },
}

impl Naming {
    fn path(&self) -> &str {
        match self {
            Self::Linked { path, .. } | Self::Unlinked { path } => path,
            Self::Renamed { to, .. } => to,
        }
    }

    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Linked { path, file } => drop(names.insert(path.clone(), *file)),
            Self::Unlinked { path } => drop(names.remove(path)),
            Self::Renamed { from, to } => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
        }
    }
}

/// The files below one directory, which itself is sure.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    root: String,
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    sure_names: BTreeMap<String, usize>,
    unsure_names: Vec<Naming>,
}

impl Disk {
    pub(crate) fn new(root: &Path) -> Self {
        let root = format!("{}/", root.display());
        let (names, sure_names) = (BTreeMap::new(), BTreeMap::new());
        Self { root, files: Vec::new(), names, sure_names, unsure_names: Vec::new() }
    }

    /// Takes in what was done; what is elsewhere is passed over.
    pub(crate) fn take(&mut self, event: &Event) {
        match event {
            Event::Opened { path, emptied } => {
                if !self.names.contains_key(path) && self.is_mine(path) {
                    self.create(path, false);
                } else if *emptied {
                    self.change(path, |_| Change::Cut { to: 0 });
                }
            }
            Event::DirectoryMade { path } if self.is_mine(path) => self.create(path, true),
            Event::Written { path, at, bytes } => self.change(path, |length| Change::Written {
                at: at.unwrap_or(length),
                bytes: bytes.clone(),
            }),
            Event::Cut { path, to } => self.change(path, |_| Change::Cut { to: *to }),
            Event::Unlinked { path } => self.name(Naming::Unlinked { path: path.clone() }),
            Event::Renamed { from, to } => {
                self.name(Naming::Renamed { from: from.clone(), to: to.clone() });
            }
            Event::Synced { path } => self.sync(path),
            Event::DirectoryMade { .. } | Event::Sent { .. } => {}
        }
    }

    /// What is mapped into memory goes with it: it is never synced, and made anew.
    fn is_mine(&self, path: &str) -> bool {
        path.starts_with(&self.root) && !path.ends_with("-shm")
    }

    fn create(&mut self, path: &str, is_directory: bool) {
        self.files.push(File { is_directory, ..File::default() });
        let file = self.files.len() - 1;
        self.name(Naming::Linked { path: path.to_owned(), file });
    }

    fn name(&mut self, naming: Naming) {
        if self.is_mine(naming.path()) {
            naming.apply(&mut self.names);
            self.unsure_names.push(naming);
        }
    }

    fn change(&mut self, path: &str, change: impl FnOnce(usize) -> Change) {
        let file = self.names.get(path).and_then(|file| self.files.get_mut(*file));
        if let Some(file) = file {
            let change = change(file.length);
            file.length = match &change {
                Change::Written { at, bytes } => file.length.max(at + bytes.len()),
                Change::Cut { to } => *to,
            };
            file.unsure.push(change);
        }
    }

    fn sync(&mut self, path: &str) {
        if let Some(file) = self.names.get(path).and_then(|file| self.files.get_mut(*file)) {
            for change in std::mem::take(&mut file.unsure) {
                apply(&mut file.sure, &change, |_| true);
            }
        }
        // The names in a directory, if it is one.
        let (synced, unsure) = std::mem::take(&mut self.unsure_names)
            .into_iter()
            .partition(|naming| parent(naming.path()) == path);
        self.unsure_names = unsure;
        let synced: Vec<Naming> = synced;
        for naming in synced {
            naming.apply(&mut self.sure_names);
        }
    }

    /// Writes what a power loss may leave into a directory that stands for the root.
    pub(crate) fn lose_power(&self, damage: Damage, dice: &mut Rng, to: &Path) -> io::Result<()> {
        let mut names = self.sure_names.clone();
        let kept = match damage {
            Damage::Dropped => 0,
            Damage::Random => dice.index(self.unsure_names.len() + 1),
            Damage::Torn => self.unsure_names.len(),
        };
        for naming in self.unsure_names.iter().take(kept) {
            naming.apply(&mut names);
        }
        // Parents stand before what is in them.
        for (path, file) in &names {
            let Some(file) = self.files.get(*file) else { continue };
            let Some(below) = path.strip_prefix(&self.root) else { continue };
            let place = to.join(below);
            if !place.parent().is_some_and(Path::is_dir) {
                continue;
            }
            if file.is_directory {
                fs::create_dir(&place)?;
            } else {
                fs::write(&place, file.after(damage, dice))?;
            }
        }
        Ok(())
    }
}

impl File {
    fn after(&self, damage: Damage, dice: &mut Rng) -> Vec<u8> {
        let mut content = self.sure.clone();
        if damage == Damage::Dropped {
            return content;
        }
        // Mostly there, mostly gone, or anything between: how full the cache of the disk was.
        let share = dice.below(5);
        for (at, change) in self.unsure.iter().enumerate() {
            let is_last = at + 1 == self.unsure.len();
            match (damage, change) {
                (Damage::Torn, Change::Written { bytes, .. }) if is_last => {
                    let kept = dice.index(bytes.len().div_ceil(SECTOR_BYTES).max(1));
                    apply(&mut content, change, |sector| sector < kept);
                }
                (Damage::Torn, _) => apply(&mut content, change, |_| true),
                (Damage::Random | Damage::Dropped, _) => {
                    apply(&mut content, change, |_| dice.below(4) < share);
                }
            }
        }
        content
    }
}

/// Does a change, or of a write the sectors that are kept.
fn apply(content: &mut Vec<u8>, change: &Change, mut keeps: impl FnMut(usize) -> bool) {
    match change {
        Change::Written { at, bytes } => {
            let first = at / SECTOR_BYTES;
            let mut start = 0;
            while start < bytes.len() {
                let sector = (at + start) / SECTOR_BYTES;
                let end = bytes.len().min((sector + 1) * SECTOR_BYTES - at);
                if keeps(sector - first) {
                    let (from, to) = (at + start, at + end);
                    content.resize(content.len().max(to), 0);
                    if let (Some(place), Some(bytes)) =
                        (content.get_mut(from..to), bytes.get(start..end))
                    {
                        place.copy_from_slice(bytes);
                    }
                }
                start = end;
            }
        }
        Change::Cut { to } => {
            if keeps(0) {
                content.resize(*to, 0);
            }
        }
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(disk: &Disk, damage: Damage) -> Vec<(String, Vec<u8>)> {
        let directory = tempfile::tempdir().unwrap();
        disk.lose_power(damage, &mut Rng::new(1), directory.path()).unwrap();
        let entries = fs::read_dir(directory.path()).unwrap().map(Result::unwrap);
        let mut files: Vec<_> = entries
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, fs::read(entry.path()).unwrap())
            })
            .collect();
        files.sort();
        files
    }

    #[test]
    fn only_what_was_synced_with_its_name_is_sure() {
        let mut disk = Disk::new(Path::new("/d"));
        let path = || "/d/a".to_owned();
        disk.take(&Event::Opened { path: path(), emptied: false });
        disk.take(&Event::Written { path: path(), at: Some(0), bytes: vec![7; 1_000] });
        assert_eq!(left(&disk, Damage::Dropped), []);
        disk.take(&Event::Synced { path: path() });
        assert_eq!(left(&disk, Damage::Dropped), [], "its name is not");
        disk.take(&Event::Synced { path: "/d".into() });
        assert_eq!(left(&disk, Damage::Dropped), [("a".into(), vec![7; 1_000])]);

        disk.take(&Event::Cut { path: path(), to: 600 });
        disk.take(&Event::Written { path: path(), at: Some(0), bytes: vec![8; 600] });
        assert_eq!(left(&disk, Damage::Dropped), [("a".into(), vec![7; 1_000])]);
        let [(_, torn)] = left(&disk, Damage::Torn).try_into().unwrap();
        assert_eq!(torn.len(), 600);
        assert_eq!(torn.last(), Some(&7), "the end of the last write is not there");

        disk.take(&Event::Renamed { from: path(), to: "/d/b".into() });
        assert_eq!(left(&disk, Damage::Dropped), [("a".into(), vec![7; 1_000])]);
        disk.take(&Event::Synced { path: "/d/b".into() });
        disk.take(&Event::Synced { path: "/d".into() });
        assert_eq!(left(&disk, Damage::Dropped), [("b".into(), vec![8; 600])]);
    }

    #[test]
    fn a_directory_whose_name_is_not_sure_takes_what_is_in_it_along() {
        let mut disk = Disk::new(Path::new("/d"));
        let file = || "/d/in/a".to_owned();
        disk.take(&Event::DirectoryMade { path: "/d/in".into() });
        disk.take(&Event::Opened { path: file(), emptied: false });
        disk.take(&Event::Synced { path: file() });
        disk.take(&Event::Synced { path: "/d/in".into() });
        let is_left = |disk: &Disk| {
            let directory = tempfile::tempdir().unwrap();
            disk.lose_power(Damage::Dropped, &mut Rng::new(1), directory.path()).unwrap();
            directory.path().join("in/a").is_file()
        };
        assert!(!is_left(&disk));
        disk.take(&Event::Synced { path: "/d".into() });
        assert!(is_left(&disk));
    }
}
