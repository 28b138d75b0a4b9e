//! The unit as it is shipped, under a real systemd as PID 1 in a container: start, reload, watchdog, kill -9, root's commands.

use std::path::Path;
use std::process::Command;

#[test]
fn trap_53_the_unit_under_a_real_systemd() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(root.join("tests/it/daemon/systemd/run"))
        .arg(env!("CARGO_BIN_EXE_realmsync"))
        .current_dir(root)
        .output()
        .expect("the script");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{said}");
}
