//! Pools in memory made by hand, of each layout.

use super::*;

const KEYS: [u64; 2] = [0x6417_bd3a_1bb0_9827, 0x3725_ba52_ca81_2763];

#[test]
fn a_hash_map_is_known_by_its_numbers() {
    let map = |words: [u64; 4]| {
        let [a, b, c, d] = words;
        entries(&[a, b, c, d, KEYS[0], KEYS[1]])
    };
    assert_eq!(map([0x7000, 3, 1, 2]), Some(2));
    assert_eq!(map([15, 0x7000, 10, 4]), Some(4));
    assert_eq!(map([0x7000, 0, 0, 0]), Some(0));
    // No mask; more than there is room for; no hasher.
    assert_eq!(map([0x7000, 4, 1, 2]), None);
    assert_eq!(map([0x7000, 3, 2, 2]), None);
    assert_eq!(entries(&[0x7000, 3, 1, 2, 0x7f00_0000_1000, KEYS[1]]), None);
}

/// The end of a pool of Tokio 1.47 with seven threads at most, of which three are workers: the map,
/// what `Shared` has behind it, and the numbers.
fn pool(garbage: u64, metrics: [u64; 3]) -> Vec<u64> {
    let [threads, idle, queued] = metrics;
    let mut words = vec![2, 1, 0x7000, 7, 7 - threads, threads, KEYS[0], KEYS[1]];
    words.extend([0x5555_0000_8000, 0, 0, garbage, 6, 0, 0, 0, 7]);
    words.extend([threads, idle, queued, 0, 0x51]);
    words
}

fn shape(words: &[u64]) -> Shape {
    let (map, entries) = next_map(words, 2).expect("a map");
    Shape {
        map,
        entries,
        queues: vec![(0, None)],
    }
}

#[test]
fn how_many_threads_there_have_been_is_not_taken_for_how_many_there_are() {
    // What is left in memory before it looks like a limit.
    let words = pool(16, [6, 1, 0]);
    let reading = shape(&words).reading(&words, 3).expect("a reading");
    let told = (reading.busy, reading.idle, reading.cap);
    assert_eq!(told, (2, 1, Some(4)));
    // Numbers that do not fit are none, also where the ones before them look as if.
    let mut words = pool(16, [6, 1, 0]);
    words[17] = 8;
    assert_eq!(shape(&words).reading(&words, 3), None);
}

#[test]
fn what_lies_behind_is_another_pool() {
    let mut words = pool(16, [6, 1, 0]);
    words.extend(pool(16, [6, 3, 0]));
    let reading = shape(&words).reading(&words, 3).expect("a reading");
    assert_eq!((reading.busy, reading.idle), (2, 1));
}

#[test]
fn workers_are_no_threads_of_the_pool() {
    let numbers = Numbers {
        cap: 514,
        workers: None,
        threads: 5,
        idle: 1,
        queued: 0,
        threads_at: 1,
    };
    assert_eq!(numbers.without(2), Some((512, 2)));
    // Workers are never idle threads of the pool.
    assert_eq!(numbers.without(5), None);
    let said = Numbers {
        workers: Some(3),
        ..numbers
    };
    assert_eq!(said.without(2), None);
}

#[test]
fn numbers_are_read_in_each_order_that_compilers_use() {
    let read = Numbers::at(&[514, 2, 3, 1, 0], 0);
    assert_eq!(read.len(), 1);
    assert_eq!((read[0].workers, read[0].threads), (Some(2), 3));
    let read = Numbers::at(&[512, 10, 0, 3, 1, 0], 0);
    assert!(read.iter().any(|n| n.threads == 3 && n.workers.is_none()));
    assert!(Numbers::at(&[0, 1, 1, 0], 0).is_empty());
}

#[test]
fn a_pool_that_is_taken_apart_still_says_which_threads_are_left() {
    let words = pool(16, [6, 1, 0]);
    let before = shape(&words).reading(&words, 3).expect("a reading");
    assert_eq!(left(&words, &before), None);
    let mut closing = words.clone();
    closing[3..6].copy_from_slice(&[0, 0, 0]);
    // The sender is still there.
    assert_eq!(left(&closing, &before), None);
    closing[8] = 0;
    assert_eq!(left(&closing, &before), Some((6, 0)));
    // All are gone.
    closing[before.threads] = 0;
    assert_eq!(left(&closing, &before), None);
}
