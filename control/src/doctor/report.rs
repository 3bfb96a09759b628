//! The findings, for people and for programs.

use super::finding::{Finding, Severity};
use super::{DoctorArgs, worst};
use crate::runner::EMBEDDED_NAME;
use serde_json::{Value, json};
use std::io::{self, Write};

const WIDTH: usize = 80;
/// Where text begins, behind the severity.
const INDENT: usize = 10;
const PLAIN: &str = "\x1b[0m";
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";

fn config_name(args: &DoctorArgs) -> String {
    args.config.as_ref().map_or_else(|| EMBEDDED_NAME.to_owned(), |path| path.display().to_string())
}

fn count(findings: &[Finding], severity: Severity) -> usize {
    findings.iter().filter(|finding| finding.severity == severity).count()
}

/// See the module's documentation for the shape.
pub fn json(args: &DoctorArgs, findings: &[Finding]) -> Value {
    let counts = Severity::ALL.map(|severity| (severity.name().to_owned(), count(findings, severity).into()));
    let entries = findings.iter().map(|finding| {
        json!({
            "id": finding.id, "subject": finding.subject, "severity": finding.severity.name(),
            "needed": finding.needed, "found": finding.found, "why": finding.why, "mend": finding.mend,
        })
    });
    let severity = worst(findings);
    json!({
        "config": config_name(args), "root": args.root.display().to_string(), "severity": severity.name(),
        "exit_status": severity.exit_status(),
        "counts": Value::Object(counts.into_iter().collect()),
        "findings": entries.collect::<Vec<_>>(),
    })
}

/// Topic by topic; the reason and the command stand below what is not ok.
pub fn print(args: &DoctorArgs, findings: &[Finding], colours: bool, out: &mut impl Write) -> io::Result<()> {
    let painted = |style: &str, text: &str| match colours {
        true => format!("{style}{text}{PLAIN}"),
        false => text.to_owned(),
    };
    let config = config_name(args);
    writeln!(out, "{} on {}", painted(BOLD, &clean(&config)), clean(&args.root.display().to_string()))?;
    let mut topic_before = "";
    for finding in findings {
        let (topic, check) = finding.id.split_once('.').unwrap_or(("", finding.id));
        if topic != topic_before {
            writeln!(out, "\n{}", painted(BOLD, topic))?;
            topic_before = topic;
        }
        let severity = format!("{:<1$}", finding.severity.name(), INDENT - 2);
        write!(out, "  {}", painted(style(finding.severity), &severity))?;
        let subject = finding.subject.as_ref().map_or_else(String::new, |subject| format!(" {subject}"));
        let check = format!("{}{subject}: ", check.replace('_', " "));
        let mut text = format!("{check}{}", clean(&finding.found));
        if !finding.needed {
            text = format!("{text}. {}", finding.why);
        }
        writeln!(out, "{}", wrapped(&text).join(&format!("\n{:INDENT$}", "")))?;
        if finding.severity == Severity::Ok || !finding.needed {
            continue;
        }
        for line in wrapped(&clean(&finding.why)) {
            writeln!(out, "{:INDENT$}{}", "", painted(DIM, &line))?;
        }
        if let Some(mend) = &finding.mend {
            // In one line, to be copied.
            writeln!(out, "{:INDENT$}→ {}", "", clean(mend))?;
        }
    }
    let counted = Severity::ALL.iter().rev().map(|severity| {
        let count = count(findings, *severity);
        format!(
            "{count} {}{}",
            severity.name(),
            if count == 1 || *severity == Severity::Ok { "" } else { "s" }
        )
    });
    let counted: Vec<String> = counted.collect();
    let severity = worst(findings);
    let verdict = match severity {
        Severity::Ok | Severity::Note => "fit",
        Severity::Warning => "fit, with warnings",
        Severity::Failure => "not fit",
    };
    writeln!(out, "\n{}: {}", painted(style(severity), verdict), counted.join(", "))
}

fn style(severity: Severity) -> &'static str {
    match severity {
        Severity::Ok => "\x1b[32m",
        Severity::Note => "\x1b[36m",
        Severity::Warning => "\x1b[1;33m",
        Severity::Failure => "\x1b[1;31m",
    }
}

/// What files hold must not command a terminal.
fn clean(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

/// Lines that fit behind the indent.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut columns = 0;
    for word in text.split(' ') {
        let word_columns = word.chars().count();
        if columns > 0 && columns + 1 + word_columns > WIDTH - INDENT {
            lines.push(String::new());
            columns = 0;
        }
        let line = lines.last_mut().expect("there is always a line");
        if columns > 0 {
            line.push(' ');
            columns += 1;
        }
        line.push_str(word);
        columns += word_columns;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(findings: &[Finding], colours: bool) -> String {
        let args = DoctorArgs { config: None, json: false, root: "/".into(), record: None };
        let mut out = Vec::new();
        print(&args, findings, colours, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn long_findings_are_wrapped_commands_are_not_and_nothing_commands_the_terminal() {
        let words = "word ".repeat(60);
        let command = format!("echo {}", "x".repeat(100));
        let finding =
            Finding::failure("a.b_c", format!("{words}\x1b[2J"), &words).mend(command.clone()).on("p");
        let text = printed(std::slice::from_ref(&finding), false);
        let long: Vec<&str> = text.lines().filter(|line| line.chars().count() > WIDTH).collect();
        assert_eq!(long, [format!("          → {command}")]);
        assert!(!text.contains('\x1b') && text.contains("failure b c p: word"), "{text}");
        assert!(printed(&[finding], true).contains("\x1b[1;31mfailure"));
    }
}
