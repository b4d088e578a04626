//! What CRIU answers (`criu_resp` of CRIU's images/rpc.proto).

use super::request::{Features, Kind};
use super::wire::{Value, fields};
use crate::error::{Code, Error, Result};

/// `criu_resp`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// What it answers; None for a kind that berth never asks for.
    pub kind: Option<Kind>,
    /// Whether it was done.
    pub success: bool,
    /// `cr_errno`.
    pub errno: Option<i32>,
    /// `cr_errmsg`: the first error of CRIU, from 3.9 on.
    pub message: Option<String>,
    /// Of the first restored process, in CRIU's pid namespace.
    pub pid: Option<i32>,
    /// With a notification: what has come to pass.
    pub script: Option<String>,
    /// To a feature check.
    pub features: Features,
    /// To the question for the version: 31600 is 3.16.
    pub version: i32,
}

impl Response {
    /// Reads one.
    ///
    /// # Errors
    /// It is malformed.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut response = Self::default();
        let mut answered = false;
        for (field, value) in fields(bytes)? {
            match field {
                1 => (answered, response.kind) = (true, value.int32().and_then(Kind::of)),
                2 => response.success = value.flag(),
                4 => response.pid = first(value, 1)?.and_then(Value::int32),
                5 => {
                    response.script = first(value, 1)?.map(Value::text);
                    response.pid = first(value, 2)?.and_then(Value::int32);
                }
                7 => response.errno = value.int32(),
                8 => {
                    response.features = Features {
                        memory_tracking: first(value, 1)?.is_some_and(Value::flag),
                        lazy_pages: first(value, 2)?.is_some_and(Value::flag),
                    }
                }
                9 => response.message = Some(value.text().trim().to_owned()),
                10 => response.version = version(value)?,
                _ => {}
            }
        }
        match answered {
            true => Ok(response),
            false => Err(Error::new(Code::Kernel, "a message of CRIU does not say what it answers")),
        }
    }
}

/// The first field of this number in a message.
fn first(message: Value<'_>, number: u32) -> Result<Option<Value<'_>>> {
    let fields = fields(message.bytes())?;
    Ok(fields.into_iter().find(|(field, _)| *field == number).map(|(_, value)| value))
}

fn version(message: Value<'_>) -> Result<i32> {
    let part = |number| -> Result<i32> { Ok(first(message, number)?.and_then(Value::int32).unwrap_or(0)) };
    let (major, minor, sublevel) = (part(1)?, part(2)?, part(4)?);
    Ok(major.saturating_mul(10_000).saturating_add(minor.saturating_mul(100)).saturating_add(sublevel))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::criu::wire::Message;

    #[test]
    fn reads_a_notification() {
        let mut notify = Message::default();
        notify.text(1, "post-restore").number(2, 77);
        let mut message = Message::default();
        message.number(1, 6).flag(2, true).message(5, &notify);
        let response = Response::parse(message.as_bytes()).unwrap();
        assert_eq!(response.kind, Some(Kind::Notify));
        assert!(response.success);
        assert_eq!((response.script.as_deref(), response.pid), (Some("post-restore"), Some(77)));
    }

    #[test]
    fn reads_a_failure_a_version_and_features() {
        let mut failed = Message::default();
        failed.number(1, 1).flag(2, false).number(7, 17).text(9, "no luck\n");
        let response = Response::parse(failed.as_bytes()).unwrap();
        assert_eq!((response.success, response.errno), (false, Some(17)));
        assert_eq!(response.message.as_deref(), Some("no luck"));

        let mut version = Message::default();
        version.number(1, 3).number(2, 17).text(3, "git").number(4, 1);
        let mut message = Message::default();
        message.number(1, 10).flag(2, true).message(10, &version);
        assert_eq!(Response::parse(message.as_bytes()).unwrap().version, 31_701);

        let mut features = Message::default();
        features.flag(1, false).flag(2, true);
        let mut message = Message::default();
        message.number(1, 9).flag(2, true).message(8, &features);
        let features = Response::parse(message.as_bytes()).unwrap().features;
        assert_eq!(features, Features { memory_tracking: false, lazy_pages: true });
    }

    #[test]
    fn an_answer_says_to_what() {
        assert!(Response::parse(b"").is_err());
        assert_eq!(Response::parse(b"\x08\x63").unwrap().kind, None);
    }
}
