//! A Linux with a genuine `/dev/kvm`, on a machine that has none.
//!
//! QEMU's TCG emulates an AMD processor with SVM and nested paging. A Linux in it ("L1") loads `kvm_amd` and has all of
//! KVM, so that a VMM in L1 boots unmodified guests ("L2"), only slowly. L1 is started once and then runs one job after
//! the other: a command with its output, its exit status, and the files that it leaves in `/out`.
//!
//! The same static program, `rig-init`, is PID 1 of L1 and of its guests; `rig.do=` on the kernel's command line says
//! what it does there.

pub mod archive;
pub mod blocks;
pub mod frame;
pub mod hostile;
pub mod machine;
pub mod modules;

pub use archive::Archive;
pub use machine::{Clock, Config, Job, Machine, MachineError, Report, Stream};
