//! The control socket: made for its owner alone, and never taken from a daemon that lives.
//!
//! Starts no task.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

/// The socket, removed when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    pub listener: UnixListener,
    pub file: SocketFile,
}

/// The socket's file; removed when dropped, if it is still the same one.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("another resolverd answers at {0}; stop it, or set `control.socket`")]
    Alive(PathBuf),
    #[error("{0} is there and is no socket; remove it, or set `control.socket`")]
    NoSocket(PathBuf),
    #[error("can't make the control socket {path}: {source}")]
    System { path: PathBuf, source: io::Error },
}

/// Makes the socket with mode 0600, in a folder that is made if need be. A file that a dead
/// daemon left is removed. Needs a tokio runtime.
pub fn bind(path: &Path) -> Result<ControlSocket, SocketError> {
    let system = |source| SocketError::System { path: path.to_owned(), source };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(system)?;
    // Two daemons that start at once would each find the other's socket stale, or not there.
    let alone = File::open(folder).map_err(system)?;
    flock(&alone, FlockOperation::LockExclusive).map_err(|e| system(e.into()))?;
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(system)?;
    socket.bind(&SockAddr::unix(path).map_err(system)?).map_err(system)?;
    // Before it listens, so that nobody gets in by the permissions it was born with.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(system)?;
    let inode = fs::symlink_metadata(path).map_err(system)?.ino();
    let file = SocketFile { path: path.to_owned(), inode };
    socket.listen(BACKLOG).map_err(system)?;
    socket.set_nonblocking(true).map_err(system)?;
    let listener = UnixListener::from_std(socket.into()).map_err(system)?;
    Ok(ControlSocket { listener, file })
}

/// Removes the socket of a daemon that is gone; leaves everything else alone.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let system = |source| SocketError::System { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(system(e)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NoSocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(system)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        // Its queue is full: somebody has it.
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(SocketError::Alive(path.to_owned())),
        Err(e) => Err(system(e)),
        Ok(_) => Err(SocketError::Alive(path.to_owned())),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|m| m.ino() == self.inode);
        if ours {
            // Nothing is lost when it stays: the next start removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Operators waiting to be let in.
const BACKLOG: i32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_its_owners_alone_and_goes_with_the_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/control.sock");
        let socket = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_that_somebody_answers_on_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let first = bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(SocketError::Alive(_))));
        assert!(path.exists());
        drop(first);
        bind(&path).unwrap();
    }

    #[tokio::test]
    async fn what_a_dead_daemon_left_is_removed_and_what_is_no_socket_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let socket = bind(&path).unwrap();
        drop(socket);
        fs::write(&path, "somebody's").unwrap();
        assert!(matches!(bind(&path), Err(SocketError::NoSocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's");
    }

    #[tokio::test]
    async fn a_newer_daemons_socket_is_left_when_the_older_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let older = bind(&path).unwrap();
        fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        let _newer = bind(&path).unwrap();
        drop(older);
        assert!(path.exists());
    }
}
