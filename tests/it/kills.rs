//! kill -9 at random moments under load, a few times, by the command that also does it hundreds of
//! times: `kontor crash-test --kills 500`.

use serde_json::Value;

use crate::process;

#[test]
fn kill_loses_duplicates_and_oversells_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let told = process::kontor()
        .args(["crash-test", "--kills", "3", "--json", "--data"])
        .arg(dir.path())
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success(), "{}{words}", String::from_utf8_lossy(&told.stdout));
    let report: Value = serde_json::from_slice(&told.stdout).unwrap();
    println!("{report}");
    assert_eq!((&report["kills"], &report["violations_total"]), (&3.into(), &0.into()));
    for some in ["checkouts", "acknowledged", "compared", "confirmed"] {
        assert!(report[some].as_u64().unwrap() > 0, "{some}: {report:#}");
    }
}
