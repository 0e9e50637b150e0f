//! The small devices: entropy and the console.

use ::rig::blocks;

use crate::guest::Guest;
use crate::support::on_kvm;

#[test]
fn a_guest_gets_entropy() {
    on_kvm(|| {
        let said = Guest::doing("random").done();
        assert!(said[0].starts_with("source=virtio_rng."), "{said:?}");
        let zeroes = format!("random={}", "0".repeat(64));
        assert_eq!((said[1].len(), said[2].len()), (zeroes.len(), zeroes.len()), "{said:?}");
        assert!(said[1] != said[2] && said[1] != zeroes && said[2] != zeroes, "{said:?}");
    });
}

/// Not a byte is missing, doubled or moved: of a MiB to standard output, and of less to a file.
#[test]
fn all_that_a_guest_prints_arrives() {
    on_kvm(|| {
        let outcome = printing(1 << 14).run();
        assert_eq!(outcome.status, 0, "{outcome}");
        is_whole(&outcome.stdout, 1 << 14);

        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("console");
        printing(1 << 10).console(&file).run().ok();
        is_whole(&std::fs::read_to_string(&file).unwrap(), 1 << 10);
    });
}

fn printing(lines: u64) -> Guest {
    Guest::doing(format!("print rig.lines={lines}"))
}

#[track_caller]
fn is_whole(printed: &str, lines: u64) {
    let expected: String = (0..lines).map(|number| blocks::line(number) + "\n").collect();
    assert_eq!(expected.len() as u64, 64 * lines);
    let expected = expected + "rig: done\n";
    assert!(printed.ends_with(&expected), "{}", first_difference(printed, &expected));
}

fn first_difference(printed: &str, expected: &str) -> String {
    let lines = printed.lines().skip_while(|line| Some(*line) != expected.lines().next());
    let mut pairs = lines.zip(expected.lines()).zip(0..);
    match pairs.find(|((printed, expected), _)| printed != expected) {
        Some(((printed, expected), number)) => format!("line {number} is {printed:?}, not {expected:?}"),
        None => format!("{} bytes were printed, not {}", printed.len(), expected.len()),
    }
}
