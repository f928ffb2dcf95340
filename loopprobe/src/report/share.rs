//! Exact shares: parts that add up to the whole.

/// Splits `total` in proportion to `weights`; the shares add up to `total`. Equal shares where all
/// weights are zero.
///
/// Largest remainder, so that no rounding is lost. No weights give no shares.
pub(super) fn share(total: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|&weight| u128::from(weight)).sum();
    if weights.is_empty() {
        return Vec::new();
    }
    if sum == 0 {
        return share(total, &vec![1; weights.len()]);
    }
    let whole = |weight: u64| u128::from(total) * u128::from(weight);
    let mut shares: Vec<u64> = weights
        .iter()
        .map(|&weight| (whole(weight) / sum) as u64)
        .collect();
    let missing = total - shares.iter().sum::<u64>();
    let mut by_remainder: Vec<usize> = (0..weights.len()).collect();
    by_remainder.sort_by_key(|&i| std::cmp::Reverse(whole(weights[i]) % sum));
    for &i in by_remainder.iter().take(missing as usize) {
        shares[i] += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_the_whole() {
        assert_eq!(share(10, &[1, 1, 1]).iter().sum::<u64>(), 10);
        assert_eq!(share(100, &[3, 1]), [75, 25]);
        assert_eq!(share(7, &[0, 0]).iter().sum::<u64>(), 7);
        assert_eq!(
            share(u64::MAX, &[u64::MAX, 1]).iter().sum::<u64>(),
            u64::MAX
        );
        assert!(share(5, &[]).is_empty());
    }
}
