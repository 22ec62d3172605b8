//! The place of the ledger: its directory, the kind of disk, and the lock that keeps a second daemon out.
//!
//! SQLite's own locks are held for one transaction at a time, so they would let two daemons take turns, and each would
//! act. The lock here is held for the life of the process: `flock` on `<ledger>.lock`. The kernel lets go of it
//! when the process dies, however it dies, so a lock is never left over. The file holds the process id, for the message
//! only.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::error::LedgerError;
use super::head::with_suffix;

/// Held as long as this process may write.
#[derive(Debug)]
pub(super) struct Lock {
    _held: Flock<File>,
}

/// Makes the directory if need be (for the owner only), refuses network disks, and returns the path with links resolved,
/// so that two names of one file share one lock.
pub(super) fn prepare(path: &Path) -> Result<PathBuf, LedgerError> {
    let absolute = std::path::absolute(path).map_err(LedgerError::io("resolve", path))?;
    let (Some(directory), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Err(LedgerError::Unacceptable(format!(
            "the path {}; expected the path of a file",
            path.display()
        )));
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|source| LedgerError::NotWritable { directory: directory.to_owned(), source })?;
    let directory = fs::canonicalize(directory).map_err(LedgerError::io("resolve", directory))?;
    refuse_network_disk(&directory)?;
    let resolved = directory.join(name);
    if !exists(&resolved)? {
        return Ok(resolved);
    }
    fs::canonicalize(&resolved).map_err(LedgerError::io("resolve", &resolved))
}

/// Whether there is something at this path. A link that leads nowhere counts: following it would create a ledger elsewhere.
pub(super) fn exists(path: &Path) -> Result<bool, LedgerError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(LedgerError::io("look at", path)(error)),
    }
}

impl Lock {
    /// Takes the lock, or says who holds it. Does not wait.
    pub(super) fn take(ledger: &Path) -> Result<Lock, LedgerError> {
        let path = with_suffix(ledger, ".lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|source| LedgerError::NotWritable { directory: directory_of(ledger), source })?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut held) => {
                write_process_id(&mut held).map_err(LedgerError::io("write", &path))?;
                Ok(Lock { _held: held })
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                Err(LedgerError::Locked { path: ledger.to_owned(), holder: read_process_id(&mut file) })
            }
            Err((_, errno)) => Err(LedgerError::io("lock", &path)(errno.into())),
        }
    }
}

fn directory_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

fn write_process_id(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

/// Only for the message, so "unknown" is an answer.
fn read_process_id(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(20).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(target_os = "linux")]
fn refuse_network_disk(directory: &Path) -> Result<(), LedgerError> {
    let found = nix::sys::statfs::statfs(directory)
        .map_err(|errno| LedgerError::io("ask for the kind of disk of", directory)(errno.into()))?;
    match network_file_system(found.filesystem_type().0 as u32) {
        None => Ok(()),
        Some(file_system) => {
            Err(LedgerError::NetworkFileSystem { directory: directory.to_owned(), file_system })
        }
    }
}

/// Other systems do not tell the kind of disk in one way; there it is left to the documentation.
#[cfg(not(target_os = "linux"))]
fn refuse_network_disk(_directory: &Path) -> Result<(), LedgerError> {
    Ok(())
}

/// The numbers of linux/magic.h; the older of them are 16 bits wide.
#[cfg(target_os = "linux")]
fn network_file_system(magic: u32) -> Option<&'static str> {
    match magic {
        0x6969 => Some("nfs"),
        0x517B => Some("smb"),
        0xFF53_4D42 => Some("cifs"),
        0xFE53_4D42 => Some("smb2"),
        0x5346_414F | 0x6B41_4653 => Some("afs"),
        0x00C3_6400 => Some("ceph"),
        0x0BD0_0BD0 => Some("lustre"),
        0x0116_1970 => Some("gfs2"),
        0x7461_636F => Some("ocfs2"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_directory_is_made_for_the_owner_only() {
        let root = tempfile::tempdir().unwrap();
        let path = prepare(&root.path().join("a/b/ledger.db")).unwrap();
        let mode = fs::metadata(path.parent().unwrap()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        let error = prepare(&root.path().join("file/below/ledger.db")).unwrap_err();
        assert!(matches!(&error, LedgerError::NotWritable { .. }), "{error:?}");
        assert!(error.to_string().contains("file/below"), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn network_disks_are_known_by_their_number() {
        use nix::sys::statfs;
        assert_eq!(network_file_system(statfs::NFS_SUPER_MAGIC.0 as u32), Some("nfs"));
        assert_eq!(network_file_system(statfs::SMB_SUPER_MAGIC.0 as u32), Some("smb"));
        assert_eq!(network_file_system(statfs::AFS_SUPER_MAGIC.0 as u32), Some("afs"));
        assert_eq!(network_file_system(statfs::EXT4_SUPER_MAGIC.0 as u32), None);
        assert_eq!(network_file_system(statfs::TMPFS_MAGIC.0 as u32), None);
        assert_eq!(network_file_system(statfs::OVERLAYFS_SUPER_MAGIC.0 as u32), None);
    }

    #[test]
    fn two_names_of_one_file_share_one_lock() {
        let root = tempfile::tempdir().unwrap();
        let real = root.path().join("real.db");
        fs::write(&real, "").unwrap();
        std::os::unix::fs::symlink(&real, root.path().join("link.db")).unwrap();
        let _held = Lock::take(&prepare(&real).unwrap()).unwrap();
        let error = Lock::take(&prepare(&root.path().join("link.db")).unwrap()).unwrap_err();
        let LedgerError::Locked { holder, .. } = error else { panic!("{error:?}") };
        assert_eq!(holder, Some(std::process::id()));
    }
}
