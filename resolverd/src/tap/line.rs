//! One line of the query log, as text or as JSON.
//!
//! Pure. The fields are the same in both forms; one that has no value is left out. Whatever a
//! query says is escaped, so that a line stays one line.

use std::fmt::Write as _;

use super::Seen;
use super::reading;
use crate::clock::Utc;
use crate::config::LogFormat;

/// Appends the line of a reply.
pub fn write(seen: &Seen, format: LogFormat, out: &mut String) {
    let fields = fields(seen);
    // Writing to a string does not fail.
    let _ = match format {
        LogFormat::Text => write!(out, "{:.6} query", Utc(seen.at)),
        LogFormat::Json => {
            write!(out, "{{\"timestamp\":\"{:.6}\",\"message\":\"query\"", Utc(seen.at))
        }
    };
    for (key, value) in fields {
        let _ = match (format, value) {
            (LogFormat::Text, Value::Text(text)) if is_plain(&text) => write!(out, " {key}={text}"),
            (LogFormat::Text, value) => write!(out, " {key}={}", value.quoted()),
            (LogFormat::Json, value) => write!(out, ",\"{key}\":{}", value.quoted()),
        };
    }
    out.push_str(match format {
        LogFormat::Text => "\n",
        LogFormat::Json => "}\n",
    });
}

fn fields(seen: &Seen) -> Vec<(&'static str, Value)> {
    let told = reading::told(&seen.message);
    let mut fields = Vec::with_capacity(FIELDS_MAX);
    let mut field = |key, value: Option<Value>| {
        if let Some(value) = value {
            fields.push((key, value));
        }
    };
    field("client", seen.client.map(|client| Value::Text(client.to_string())));
    field(
        "port",
        seen.client.and_then(|client| client.port).map(|port| Value::Number(port.into())),
    );
    field("transport", Some(Value::Text(seen.transport.as_str().to_owned())));
    if let Some(name) = told.name {
        field("name", Some(Value::Text(name)));
        field("type", Some(Value::Text(reading::type_text(told.qtype))));
        field("class", Some(Value::Text(reading::class_text(told.class))));
    }
    field("do", Some(Value::Flag(told.dnssec_ok)));
    field("cd", Some(Value::Flag(told.checking_disabled)));
    // What the kernel does not tell is not guessed.
    field("ad", seen.authentic_data.map(Value::Flag));
    field("rcode", Some(Value::Text(reading::rcode_text(told.rcode))));
    if !seen.is_of_kernel() {
        field("secure", Some(Value::Flag(told.authentic)));
        field("truncated", Some(Value::Flag(told.truncated)));
    }
    field("octets", Some(Value::Number(seen.octets as u64)));
    field("answered_by", Some(Value::Text(seen.by.to_owned())));
    field("upstream", seen.upstream.as_ref().map(|name| Value::Text(name.to_string())));
    let micros = |took: std::time::Duration| u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    field("duration_us", seen.took.map(|took| Value::Number(micros(took))));
    if let Some((code, text)) = told.ede {
        field("ede", Some(Value::Number(code.into())));
        field("ede_text", (!text.is_empty()).then_some(Value::Text(text)));
    }
    field("sample", Some(Value::Number(seen.sample.into())));
    fields
}

enum Value {
    Text(String),
    Number(u64),
    Flag(bool),
}

impl Value {
    /// As JSON writes it.
    fn quoted(&self) -> String {
        match self {
            Self::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
            Self::Number(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
        }
    }
}

/// Whether a value can stand in a line of text as it is, and be found by its spaces again.
fn is_plain(text: &str) -> bool {
    let plain = |octet: u8| octet.is_ascii_graphic() && !matches!(octet, b'"' | b'=');
    !text.is_empty() && text.bytes().all(plain)
}

/// All that a line can have.
const FIELDS_MAX: usize = 20;
