//! Files of a store that only its owner can read.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::open;
use crate::process::Server;

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
    allow(&data.join("master.key"), 0o644);
    let _store = open(&data).await;
    for file in std::fs::read_dir(&data).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.path().display());
    }
}

fn modes(dir: &Path) -> Vec<(String, u32)> {
    let files = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let mode = |file: &std::fs::DirEntry| file.metadata().unwrap().permissions().mode() & 0o777;
    files.map(|file| (file.file_name().into_string().unwrap(), mode(&file))).collect()
}

/// A server in a folder that others can read, with a umask that takes nothing away: also while it
/// runs and after each command.
#[tokio::test(flavor = "multi_thread")]
async fn no_umask_makes_a_file_readable_to_others() {
    let dir = tempfile::tempdir().unwrap();
    let (data, restored) = (dir.path().join("data"), dir.path().join("restored"));
    let (backups, program) = (dir.path().join("backups"), env!("CARGO_BIN_EXE_kontor"));
    for folder in [&data, &restored, &backups] {
        std::fs::create_dir(folder).unwrap();
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let private = |dir: &Path, some: &[&str]| {
        let found = modes(dir);
        for name in some {
            assert!(found.iter().any(|(file, _)| file == name), "{name} is not there: {found:?}");
        }
        let open: Vec<_> = found.iter().filter(|(_, mode)| *mode != 0o600).collect();
        assert!(open.is_empty(), "{open:?}");
    };
    let serve = Server::start_with(&data, "http://127.0.0.1:1", |command| {
        let mut shell = Command::new("sh");
        shell.args(["-c", "umask 000; exec \"$0\" \"$@\"", program]).args(command.get_args());
        for (name, value) in command.get_envs() {
            shell.env(name, value.unwrap_or_default());
        }
        shell.current_dir(std::env::temp_dir()).stdout(Stdio::piped());
        *command = shell;
    });
    let all = ["kontor.db", "kontor.db-wal", "kontor.db-shm", "kontor.lock", "master.key"];
    private(&data, &all);
    private(&data, &["sign-in-link"]);
    let run = |line: &str| {
        let shell = format!("umask 000; exec {program} {line}");
        let done =
            Command::new("sh").args(["-c", &shell]).current_dir(dir.path()).output().unwrap();
        assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    };
    run("key create --data data --scope admin");
    run("key rotate --data data --master");
    run("backup --data data --to backups/a.db");
    private(&data, &all);
    assert_eq!(serve.terminate(), Some(0));
    private(&data, &["kontor.db", "kontor.lock", "master.key"]);
    private(&backups, &["a.db"]);
    std::fs::set_permissions(backups.join("a.db"), std::fs::Permissions::from_mode(0o644)).unwrap();
    run("restore --from backups/a.db --data restored --master-key data/master.key");
    private(&restored, &["kontor.db", "kontor.lock", "master.key"]);
}
