//! How many audit records are kept: the oldest of more are taken out, in the background, and that is a record, too.

use crate::audit;
use crate::ledger::LedgerError;
use crate::node::Node;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// Records that are taken out at once, while changes wait; so many more than are to be kept there are before any is.
const STEP: u64 = 1_000;
/// Between two attempts while the disk, or the group, does not take the record of it.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// Keeps so many records as `[store] audit_records_max` says, which may change, until it is dropped or the node ends.
pub async fn keep(node: Arc<Node>) {
    let (mut latest, mut stopping) = (node.ledger.latest(), node.stopping.clone());
    loop {
        latest.borrow_and_update();
        let pruning = node.clone();
        let Ok(pruned) = tokio::task::spawn_blocking(move || prune(&pruning)).await else { return };
        let wait = match pruned {
            Ok(()) => Duration::MAX,
            Err(error) => {
                tracing::error!("all audit records are kept for now: {error}");
                RETRY_INTERVAL
            }
        };
        tokio::select! {
            changed = latest.changed(), if wait == Duration::MAX => if changed.is_err() {
                return;
            },
            () = tokio::time::sleep(wait) => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
    }
}

/// The record comes first: what is gone was told, whatever happens meanwhile. What is left to take out then is taken out the next time.
fn prune(node: &Node) -> Result<(), LedgerError> {
    let kept = node.settings.current().0.store.audit_records_max;
    let Some(numbers) = surplus(node.ledger.numbers()?, kept) else { return Ok(()) };
    let (first, last) = (*numbers.start(), *numbers.end());
    let now = format!("the latest {kept} are kept: [store] audit_records_max");
    let object = format!("{first} to {last}");
    node.ledger.record(audit::record_of("retention", node.unix_ns(), "audit.prune", &object, now))?;
    for first in numbers.step_by(STEP as usize) {
        if *node.stopping.borrow() {
            return Ok(());
        }
        node.ledger.prune(first..=last.min(first + STEP - 1))?;
    }
    tracing::info!("audit records {first} to {last} were taken out: [store] audit_records_max = {kept}");
    Ok(())
}

/// Of the records of these numbers those that are too many.
fn surplus(numbers: RangeInclusive<u64>, kept: u64) -> Option<RangeInclusive<u64>> {
    let (first, last) = (*numbers.start(), numbers.end().checked_sub(kept)?);
    (last + 1 >= first + STEP).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_more_than_are_kept_are_too_many_once_there_are_enough_of_them() {
        assert_eq!(surplus(RangeInclusive::new(1, 0), 1_000), None, "there is none");
        assert_eq!(surplus(1..=1_999, 1_000), None);
        assert_eq!(surplus(1..=2_000, 1_000), Some(1..=1_000));
        assert_eq!(surplus(1..=2_000, 5_000), None);
        assert_eq!(surplus(501..=2_499, 1_000), None);
        assert_eq!(surplus(501..=1_000_000, 1_000), Some(501..=999_000));
    }
}
