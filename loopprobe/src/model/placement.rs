//! Where a process runs: its unit, container and pod, as its control group names them.

use serde::{Deserialize, Serialize};

/// Where the machine has put a process: what its control group is called by those who manage it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The systemd unit: `api.service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The container, by the first digits of its id or by its name, if loopprobe is not in it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The pod's uid, under Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
}

impl Placement {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }

    /// What is known, each with its name.
    pub fn labels(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [
            ("unit", &self.unit),
            ("container", &self.container),
            ("pod", &self.pod),
        ];
        all.into_iter()
            .filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }
}
