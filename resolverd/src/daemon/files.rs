//! Files that the configuration names, read into what policy makes of them.
//!
//! They are read at start and at each reload, before anything of the new configuration is taken
//! up: one that is bad refuses it whole. Bounded by [`FILE_OCTETS_MAX`].

use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use crate::config::{Config, ConfigError};
use crate::policy::Hosts;
use crate::policy::hosts::Reader;

/// What is in the files.
#[derive(Clone, Debug, Default)]
pub struct Files {
    pub hosts: Arc<Hosts>,
    /// A digest of all of it.
    pub digest: u64,
}

/// Reads them all.
///
/// # Errors
///
/// The first that cannot be read, or is none.
pub fn read(config: &Config) -> Result<Files, ConfigError> {
    let mut reader = Reader::default();
    let mut hasher = DefaultHasher::new();
    for path in &config.resolve.hosts_files {
        let refuse = |why: String| {
            let text = format!("`resolve.hosts-files`: {}: {why}", path.display());
            ConfigError::refused(vec![config.problem(Default::default(), text)])
        };
        let octets = octets_of(path).map_err(|error| refuse(error.to_string()))?;
        reader.read(&octets).map_err(|error| refuse(error.to_string()))?;
        octets.hash(&mut hasher);
    }
    Ok(Files { hosts: Arc::new(reader.finish()), digest: hasher.finish() })
}

/// All of a file.
///
/// # Errors
///
/// When it cannot be read, or is larger than any such file.
pub fn octets_of(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    File::open(path)?.take(FILE_OCTETS_MAX + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > FILE_OCTETS_MAX {
        return Err(std::io::Error::other(format!("it has more than {FILE_OCTETS_MAX} octets")));
    }
    Ok(octets)
}

/// Several times the largest feed there is.
pub const FILE_OCTETS_MAX: u64 = 512 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_file_refuses_the_configuration_and_a_changed_one_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        let text = format!("[resolve]\nhosts-files = [{:?}]\n", path.to_str().unwrap());
        let config = Config::parse(&text, "f").unwrap();
        assert!(read(&config).unwrap_err().to_string().contains("No such file"));
        std::fs::write(&path, "192.0.2.1 a.test\n").unwrap();
        let one = read(&config).unwrap();
        assert_eq!(one.hosts.len(), 1);
        std::fs::write(&path, "192.0.2.2 a.test\n").unwrap();
        assert_ne!(read(&config).unwrap().digest, one.digest);
        std::fs::write(&path, "a.test 192.0.2.2\n").unwrap();
        let error = read(&config).unwrap_err().to_string();
        assert!(error.contains("hosts: line 1: `a.test` is no address"), "{error}");
    }
}
