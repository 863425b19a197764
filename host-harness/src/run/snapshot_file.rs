//! A snapshot of the module's state on disk: a head, which is one line of JSON, then the parts of the snapshot, one a line.

use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

/// Number of the file's own format. The module numbers the format of the parts.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Head {
    /// [`FORMAT`].
    psexec_filter_state: u32,
    /// Number of parts.
    pieces: usize,
    /// Checksum of all parts, each with its newline.
    crc32: u32,
}

/// Writes a snapshot and replaces the last one with it in one step: whoever reads the file finds one of them, whole. Returns
/// its size in bytes.
pub fn write(path: &Path, parts: &[String]) -> io::Result<u64> {
    let mut crc = crc32fast::Hasher::new();
    for part in parts {
        crc.update(part.as_bytes());
        crc.update(b"\n");
    }
    let head = Head {
        psexec_filter_state: FORMAT,
        pieces: parts.len(),
        crc32: crc.finalize(),
    };
    let new = beside(path, ".new");
    let mut file = io::BufWriter::new(create(&new)?);
    writeln!(file, "{}", serde_json::to_string(&head)?)?;
    for part in parts {
        file.write_all(part.as_bytes())?;
        file.write_all(b"\n")?;
    }
    let file = file.into_inner().map_err(|error| error.into_error())?;
    file.sync_all()?;
    let size = file.metadata()?.len();
    std::fs::rename(&new, path)?;
    Ok(size)
}

/// Reads a snapshot; `None` if there is no file. The error is a message for the operator: what is wrong with the file.
pub fn read(path: &Path) -> Result<Option<Vec<String>>, String> {
    let name = path.display();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{name}: cannot be read: {error}")),
    };
    let mut lines = BufReader::new(file).lines();
    let damaged = |what: &str| format!("{name}: is damaged: {what}");
    let head = lines
        .next()
        .and_then(Result::ok)
        .and_then(|line| serde_json::from_str::<Head>(&line).ok());
    let Some(head) = head else {
        return Err(damaged("it does not begin like a snapshot"));
    };
    if head.psexec_filter_state != FORMAT {
        return Err(format!(
            "{name}: was written by another version of this program, in file format {}; expected {FORMAT}",
            head.psexec_filter_state
        ));
    }
    let mut crc = crc32fast::Hasher::new();
    let mut parts = Vec::new();
    for line in lines {
        let line = line.map_err(|error| damaged(&error.to_string()))?;
        crc.update(line.as_bytes());
        crc.update(b"\n");
        parts.push(line);
    }
    if parts.len() != head.pieces {
        return Err(damaged(&format!(
            "it has {} parts, and its head says {}",
            parts.len(),
            head.pieces
        )));
    }
    if crc.finalize() != head.crc32 {
        return Err(damaged("its checksum is not the one in its head"));
    }
    Ok(Some(parts))
}

/// Reserves the file for this program, as long as the result lives. The error is a message for the operator.
pub fn lock(path: &Path) -> Result<File, String> {
    let name = path.display();
    let file = create(&beside(path, ".lock"))
        .map_err(|error| format!("{name}: cannot be used: {error}; does its folder exist?"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(format!(
            "{name}: another running program uses this file; give each program a file of its own"
        )),
    }
}

/// Creates a file that only this user can read: snapshots contain command lines.
fn create(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Renames a file that was refused, so that the next snapshot does not replace it. Returns its new path.
pub fn put_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = beside(path, ".refused");
    std::fs::rename(path, &aside)?;
    Ok(aside)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_snapshot_is_read_back_and_damage_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state");
        assert_eq!(read(&path), Ok(None));
        let parts = vec![r#"{"a":1}"#.to_owned(), r#"{"b":"é"}"#.to_owned()];
        let size = write(&path, &parts).expect("written");
        let bytes = std::fs::read(&path).expect("there");
        assert_eq!((read(&path), size), (Ok(Some(parts)), bytes.len() as u64));
        // Every truncation is noticed, except one of the last newline, and every flipped bit.
        for at in 0..bytes.len() {
            std::fs::write(&path, &bytes[..at]).expect("written");
            assert_eq!(read(&path).is_ok(), at + 1 == bytes.len(), "cut at {at}");
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            std::fs::write(&path, &flipped).expect("written");
            assert!(read(&path).is_err(), "flipped at {at}");
        }
    }
}
