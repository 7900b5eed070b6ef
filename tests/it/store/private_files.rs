//! Files of a store that only its owner can read.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::open;

#[tokio::test]
async fn data_folder_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("deep/data");
    let store = open(&data).await;
    let backup = dir.path().join("backup.db");
    store.backup(&backup).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&data), mode(&backup)), (0o700, 0o600));
}

#[tokio::test]
async fn files_of_a_folder_that_others_can_read_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let allow = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    std::fs::create_dir(&data).unwrap();
    allow(&data, 0o755);
    open(&data).await.close().await;
    allow(&data.join("kontor.db"), 0o644);
    let _store = open(&data).await;
    for file in std::fs::read_dir(&data).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.path().display());
    }
}
