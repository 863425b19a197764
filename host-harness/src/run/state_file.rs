//! A snapshot of what the module remembers, on disk: a head of one JSON line, then the module's pieces, one a line.

use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

/// Number of the form of the file itself. What the pieces are is the module's affair.
const FORM: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Head {
    psexec_filter_state: u32,
    pieces: usize,
    crc32: u32,
}

/// Puts a snapshot in place of the last one: whoever reads finds the one or the other whole. Returns its size in bytes.
pub fn write(path: &Path, pieces: &[String]) -> io::Result<u64> {
    let mut crc = crc32fast::Hasher::new();
    for piece in pieces {
        crc.update(piece.as_bytes());
        crc.update(b"\n");
    }
    let head = Head {
        psexec_filter_state: FORM,
        pieces: pieces.len(),
        crc32: crc.finalize(),
    };
    let new = beside(path, ".new");
    let mut file = io::BufWriter::new(create(&new)?);
    writeln!(file, "{}", serde_json::to_string(&head)?)?;
    for piece in pieces {
        file.write_all(piece.as_bytes())?;
        file.write_all(b"\n")?;
    }
    let file = file.into_inner().map_err(|error| error.into_error())?;
    file.sync_all()?;
    let size = file.metadata()?.len();
    std::fs::rename(&new, path)?;
    Ok(size)
}

/// Reads a snapshot; `None` if there is none. The error is a message for people: what is wrong with the file.
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
        return Err(damaged("it does not begin like a state file"));
    };
    if head.psexec_filter_state != FORM {
        return Err(format!(
            "{name}: is of form {}, from another version; expected form {FORM}",
            head.psexec_filter_state
        ));
    }
    let mut crc = crc32fast::Hasher::new();
    let mut pieces = Vec::new();
    for line in lines {
        let line = line.map_err(|error| damaged(&error.to_string()))?;
        crc.update(line.as_bytes());
        crc.update(b"\n");
        pieces.push(line);
    }
    if pieces.len() != head.pieces {
        return Err(damaged(&format!(
            "it has {} pieces; its head says {}",
            pieces.len(),
            head.pieces
        )));
    }
    if crc.finalize() != head.crc32 {
        return Err(damaged("its checksum is another than its head says"));
    }
    Ok(Some(pieces))
}

/// Takes the state for this program alone, as long as the result lives. The error is a message for people.
pub fn lock(path: &Path) -> Result<File, String> {
    let name = path.display();
    let file = create(&beside(path, ".lock"))
        .map_err(|error| format!("{name}: cannot be used: {error}; does its folder exist?"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(format!(
            "{name}: another program keeps its state there; give each its own"
        )),
    }
}

/// A file that is nobody else's to read: it holds command lines.
fn create(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Puts a file that was refused aside, so that the next snapshot does not replace it. Returns where.
pub fn put_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = beside(path, ".refused");
    std::fs::rename(path, &aside)?;
    Ok(aside)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state");
        assert_eq!(read(&path), Ok(None));
        let pieces = vec![r#"{"a":1}"#.to_owned(), r#"{"b":"é"}"#.to_owned()];
        let size = write(&path, &pieces).expect("written");
        let bytes = std::fs::read(&path).expect("there");
        assert_eq!((read(&path), size), (Ok(Some(pieces)), bytes.len() as u64));
        // Every cut and every flipped bit is noticed.
        for at in 0..bytes.len() {
            std::fs::write(&path, &bytes[..at]).expect("written");
            assert!(read(&path).is_err() || at + 1 == bytes.len(), "cut at {at}");
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            std::fs::write(&path, &flipped).expect("written");
            assert!(read(&path).is_err(), "flipped at {at}");
        }
    }
}
