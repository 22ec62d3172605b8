//! The API's token: made once, readable by its owner only.

use anyhow::Context as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Random bytes of a token: more than anybody can guess.
const TOKEN_BYTES: usize = 24;

/// The token in `path`; made if there is none.
pub(crate) fn read_or_make(path: &Path) -> anyhow::Result<String> {
    if let Some(mode) = too_open(path)? {
        anyhow::bail!(
            "others on this machine can read or change the token in {} (mode {mode:o}), and with it turn services back; \
             delete it, and a new one is made, or `chmod 600` it",
            path.display()
        );
    }
    match fs::read_to_string(path) {
        Ok(token) if !token.trim().is_empty() => Ok(token.trim().to_owned()),
        Ok(_) => anyhow::bail!("{} is empty; delete it, and a new token is made", path.display()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => make(path),
        Err(error) => Err(error).with_context(|| format!("cannot read the token in {}", path.display())),
    }
}

/// The mode of a file that others than its owner and its group can read, or others than its owner can write.
fn too_open(path: &Path) -> anyhow::Result<Option<u32>> {
    let about = match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        about => about.with_context(|| format!("cannot look at {}", path.display()))?,
    };
    let mode = about.permissions().mode() & 0o777;
    Ok((mode & 0o027 != 0).then_some(mode))
}

fn make(path: &Path) -> anyhow::Result<String> {
    let mut bytes = [0_u8; TOKEN_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| anyhow::anyhow!("the system gives no random bytes: {error}"))?;
    let token = hex::encode(bytes);
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.with_context(|| format!("cannot write the token to {}", path.display()))?;
    file.write_all(token.as_bytes())
        .with_context(|| format!("cannot write the token to {}", path.display()))?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let token = read_or_make(&path).unwrap();
        assert_eq!(token.len(), 2 * TOKEN_BYTES);
        assert_eq!(read_or_make(&path).unwrap(), token);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(read_or_make(&path).unwrap(), token);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read_or_make(&path).unwrap_err().to_string().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "\n").unwrap();
        assert!(read_or_make(&path).unwrap_err().to_string().contains("is empty"));
    }
}
