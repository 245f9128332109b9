//! The listening sockets, bound before the API's thread begins, so that whoever starts the daemon is told what is wrong.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
    path::PathBuf,
};

use super::Certificate;
use crate::{ApiConfig, ApiError, config::Socket};

/// Everything that is listened on.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) unix: Option<(UnixListener, SocketFile)>,
    pub(crate) tcp: Option<(TcpListener, SocketAddr, Option<Certificate>)>,
}

/// The socket's file, which goes away with the API, unless it is another's by then.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Listeners {
    pub(crate) fn bind(config: &ApiConfig) -> Result<Self, ApiError> {
        // The certificate first: what can fail without a trace goes before what leaves one.
        let tcp = match &config.tcp {
            None => None,
            Some(tcp) => {
                let certificate = tcp.tls.as_ref().map(Certificate::load).transpose()?;
                let fail = |source| ApiError::Listen { listen: tcp.listen, source };
                let listener = TcpListener::bind(tcp.listen).map_err(fail)?;
                listener.set_nonblocking(true).map_err(fail)?;
                let address = listener.local_addr().map_err(fail)?;
                Some((listener, address, certificate))
            }
        };
        let unix = config.socket.as_ref().map(bind_unix).transpose()?;
        Ok(Self { unix, tcp })
    }
}

/// Binds under another name and renames: nobody ever meets a socket with the wrong mode, and one that was left behind is replaced.
fn bind_unix(socket: &Socket) -> Result<(UnixListener, SocketFile), ApiError> {
    let path = &socket.path;
    let fail = |what| move |source: io::Error| ApiError::Socket { what, path: path.clone(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(fail("look at")(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(ApiError::NotASocket { path: path.clone() }),
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(ApiError::SocketInUse { path: path.clone() }),
        Ok(_) => {}
    }
    let mut fresh = path.clone().into_os_string();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    if fs::symlink_metadata(&fresh).is_ok_and(|found| found.file_type().is_socket()) {
        fs::remove_file(&fresh).map_err(fail("replace"))?;
    }
    let listener = UnixListener::bind(&fresh).map_err(fail("make"))?;
    let finish = || {
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600)).map_err(fail("protect"))?;
        listener.set_nonblocking(true).map_err(fail("prepare"))?;
        let inode = fs::symlink_metadata(&fresh).map_err(fail("look at"))?.ino();
        fs::rename(&fresh, path).map_err(fail("name"))?;
        Ok(inode)
    };
    match finish() {
        Ok(inode) => Ok((listener, SocketFile { path: path.clone(), inode })),
        Err(error) => {
            let _ = fs::remove_file(&fresh);
            Err(error)
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_its_users_alone_and_goes_with_its_listener() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let (listener, file) = bind_unix(&Socket::own(&path)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(UnixStream::connect(&path).is_ok());
        assert!(matches!(bind_unix(&Socket::own(&path)), Err(ApiError::SocketInUse { .. })), "in use");
        drop((listener, file));
        assert!(!path.exists());
    }

    #[test]
    fn what_a_crash_left_is_replaced_and_anything_else_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        drop(UnixListener::bind(&path).unwrap());
        let (_listener, old) = bind_unix(&Socket::own(&path)).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        // A successor's file is not removed by its predecessor.
        fs::remove_file(&path).unwrap();
        let (_next, _file) = bind_unix(&Socket::own(&path)).unwrap();
        drop(old);
        assert!(path.exists());
        let file = dir.path().join("file");
        fs::write(&file, "precious").unwrap();
        assert!(matches!(bind_unix(&Socket::own(&file)), Err(ApiError::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    }
}
