//! What one check found.

use std::process::ExitCode;

/// Files may hold anything.
const FOUND_CHARS_MAX: usize = 400;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Ok,
    /// Good to know, or not needed.
    Note,
    /// It works, but slower, or not for every user.
    Warning,
    /// The configuration can't work.
    Failure,
}

impl Severity {
    pub const ALL: [Severity; 4] = [Severity::Ok, Severity::Note, Severity::Warning, Severity::Failure];

    pub fn name(self) -> &'static str {
        match self {
            Severity::Ok => "ok",
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Failure => "failure",
        }
    }

    pub fn exit_status(self) -> u8 {
        match self {
            Severity::Ok | Severity::Note => 0,
            Severity::Warning => 2,
            Severity::Failure => 3,
        }
    }
}

impl From<Severity> for ExitCode {
    fn from(severity: Severity) -> ExitCode {
        ExitCode::from(severity.exit_status())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `topic.check`
    pub id: &'static str,
    /// The port or interface, where there is a finding for each.
    pub subject: Option<String>,
    pub severity: Severity,
    /// Whether this configuration needs it at all.
    pub needed: bool,
    pub found: String,
    /// One sentence.
    pub why: String,
    /// The command that mends it.
    pub mend: Option<String>,
}

impl Finding {
    pub fn new(id: &'static str, severity: Severity, found: impl Into<String>, why: &str) -> Finding {
        let (mut found, why) = (found.into(), why.to_owned());
        if let Some((end, _)) = found.char_indices().nth(FOUND_CHARS_MAX) {
            found.replace_range(end.., "…");
        }
        Finding { id, subject: None, severity, needed: true, found, why, mend: None }
    }

    pub fn ok(id: &'static str, found: impl Into<String>, why: &str) -> Finding {
        Finding::new(id, Severity::Ok, found, why)
    }

    pub fn note(id: &'static str, found: impl Into<String>, why: &str) -> Finding {
        Finding::new(id, Severity::Note, found, why)
    }

    pub fn failure(id: &'static str, found: impl Into<String>, why: &str) -> Finding {
        Finding::new(id, Severity::Failure, found, why)
    }

    /// `why` ends "not needed by this configuration: …".
    pub fn not_needed(id: &'static str, found: impl Into<String>, why: &str) -> Finding {
        let why = format!("Not needed by this configuration: {why}.");
        Finding { needed: false, ..Finding::note(id, found, &why) }
    }

    /// The machine does not tell.
    pub fn unknown(id: &'static str, file: &str) -> Finding {
        Finding::note(id, format!("{file} can't be read"), "Without it nothing can be said about this.")
    }

    pub fn mend(self, command: impl Into<String>) -> Finding {
        Finding { mend: Some(command.into()), ..self }
    }

    pub fn on(self, subject: &str) -> Finding {
        Finding { subject: Some(subject.to_owned()), ..self }
    }
}
