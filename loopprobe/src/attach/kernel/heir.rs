//! A kernel side that goes on where another one of the same process ends.

use aya::maps::{MapError, PerCpuArray, PerCpuValues};
use loopprobe_common::histogram::Stats;

use super::{Kernel, load::map_error};
use crate::attach::AttachError;

impl Kernel {
    /// Counts on from where the other one is, which has the same plan and counts nothing any more:
    /// polls and delays by task type. Counters and cost begin anew.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub(crate) fn count_on_from(&mut self, other: &Self) -> Result<(), AttachError> {
        for index in 0..self.seat.types.len() as u32 {
            self.set_stats("STATS", index, &other.stats(index)?)?;
            if self.has_lag() && other.has_lag() {
                self.set_stats("DELAYS", index, &other.delays(index)?)?;
            }
        }
        Ok(())
    }

    /// One CPU has them all: their sum is what is read.
    fn set_stats(
        &mut self,
        name: &'static str,
        index: u32,
        stats: &Stats,
    ) -> Result<(), AttachError> {
        if stats.polls == 0 {
            return Ok(());
        }
        let row = self.seat.row_of(index);
        let mut tables = self.seat.load.tables();
        let mut map: PerCpuArray<_, Stats> = tables.map_mut(name)?;
        let before = map.get(&row, 0).map_err(map_error(name))?;
        let mut values = vec![Stats::default(); before.len()];
        values[0] = *stats;
        let values = PerCpuValues::try_from(values).map_err(|source| AttachError::Map {
            map: name,
            source: MapError::IoError(source),
        })?;
        map.set(row, values, 0).map_err(map_error(name))
    }
}
