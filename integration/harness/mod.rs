//! What the tests stand on: bundles, containers, a view of the host, and the runner.

pub mod bundle;
pub mod checkpoint;
pub mod container;
pub mod host;
pub mod program;
pub mod report;
pub mod runner;
pub mod terminal;
pub mod tmux;
pub mod user;

pub use bundle::Bundle;
pub use container::Container;
pub use program::{Done, slow};
pub use report::Report;
pub use serde_json::{Value, json};

/// A skip, told from a failure by its type.
pub struct Skip(pub String);

/// Ends a test that cannot run here. In strict mode the runner fails it unless the reason is expected.
pub fn skip(reason: String) -> ! {
    std::panic::resume_unwind(Box::new(Skip(reason)))
}

/// Skips the test, with a reason, where the condition does not hold.
#[macro_export]
macro_rules! require {
    ($condition:expr, $($reason:tt)+) => {
        if !$condition {
            $crate::harness::skip(format!($($reason)+));
        }
    };
}

/// One test of a file.
pub struct Test {
    pub name: &'static str,
    pub run: fn(),
    /// It compares the whole host before and after, so nothing may run beside it.
    pub alone: bool,
}

/// Lists a file's tests; a function that is not listed is dead code, which clippy refuses.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)? $(; alone: $($alone:ident),* $(,)?)?) => {
        pub const TESTS: &[$crate::harness::Test] = &[
            $($crate::harness::Test { name: stringify!($name), run: $name, alone: false },)*
            $($($crate::harness::Test { name: stringify!($alone), run: $alone, alone: true },)*)?
        ];
    };
}
