//! Awaits: where each task waits.

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::{
    matrix::{Build, Profile, Tokio},
    privileges::place,
};
use serde_json::Value;

use crate::crowd;

#[test]
fn debug_information_tells_the_chain_of_awaits() -> Result<()> {
    let _place = place()?;
    for tokio in [Tokio::Newest, Tokio::Exactly("1.28.2")] {
        let build = Build {
            tokio,
            profile: Profile::DebugTypes,
            stripped: false,
        };
        let (_target, truth, found) = crowd(build)?;
        let mut checked = 0;
        for task in found["tasks"].as_array().context("tasks")? {
            let known = truth.iter().find(|known| known["task_id"] == task["id"]);
            let lines = known.and_then(|known| known["lines"].as_array());
            let Some(lines) = lines.filter(|lines| !lines.is_empty()) else {
                continue;
            };
            let chain = task["await"]
                .as_array()
                .with_context(|| format!("no chain: {task}"))?;
            let told: Vec<&Value> = chain.iter().filter_map(|point| point.get("line")).collect();
            assert_eq!(told, lines.iter().collect::<Vec<_>>(), "{build:?}: {task}");
            // Behind the last await is what is no async function.
            ensure!(chain.len() == lines.len() + 1, "{task}");
            let last = chain.last().and_then(|point| point["function"].as_str());
            let is_leaf = |name: &str| name.contains("Pending") || name.contains("Sleep");
            ensure!(last.is_some_and(is_leaf), "{task}");
            checked += 1;
        }
        ensure!(checked >= 43, "{checked} chains");
    }
    Ok(())
}
