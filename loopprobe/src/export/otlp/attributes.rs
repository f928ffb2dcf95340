//! Names and values beside spans, records and metrics, and what tells the process from all others.

use std::fs;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
};

use crate::{model::Session, report::clean};

/// Where the kernel says what the host is called.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// A text. Names come from the target: no control character of theirs is passed on.
pub(super) fn text(key: &str, value: &str) -> KeyValue {
    pair(key, Value::StringValue(clean(value).into_owned()))
}

/// A number.
pub(super) fn number(key: &str, value: u64) -> KeyValue {
    pair(
        key,
        Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)),
    )
}

/// Yes or no.
pub(super) fn flag(key: &str, value: bool) -> KeyValue {
    pair(key, Value::BoolValue(value))
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// The process that is observed. `service.*`, `host.*`, `process.*` and `k8s.*` are of
/// OpenTelemetry's semantic conventions; the others are called as in alerts.
pub(super) fn resource(session: &Session) -> Resource {
    let host = fs::read_to_string(HOST_NAME).unwrap_or_default();
    let host = host.trim();
    let mut attributes = vec![
        text("service.name", &session.name),
        text("service.instance.id", &format!("{host}:{}", session.pid)),
        number("process.pid", session.pid.into()),
        text("host.name", host),
    ];
    let placement = &session.placement;
    attributes.extend(placement.labels().map(|(name, value)| text(name, value)));
    let pod = placement.pod.iter();
    attributes.extend(pod.map(|uid| text("k8s.pod.uid", uid)));
    Resource {
        attributes,
        ..Resource::default()
    }
}

/// Who says so.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "loopprobe".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}
