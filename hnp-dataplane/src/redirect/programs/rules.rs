//! Sets of rules in the kernel.

use std::sync::atomic::Ordering;

use aya::maps::{LpmTrie, lpm_trie::Key};
use hnp_common::{RULES, RuleKey, Segments};

use super::{
    super::{CompiledRules, RedirectError},
    Programs,
};

/// The number of a set of rules in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RulesId(pub(in crate::redirect) u32);

impl Programs {
    /// Puts rules into the kernel, for policies to refer to.
    ///
    /// # Errors
    /// When the kernel does not take them: the map is full, mostly.
    pub fn add_rules(&mut self, rules: &CompiledRules) -> Result<RulesId, RedirectError> {
        let id = self.next_rules.fetch_add(1, Ordering::Relaxed);
        let doing = "store rules for the eBPF programs";
        let mut map: LpmTrie<_, RuleKey, Segments> = self.map_mut(RULES)?;
        for (network, segments) in &rules.prefixes {
            let key = RuleKey {
                rules: id,
                address: std::net::IpAddr::V6(network.network()).into(),
            };
            let bits = u32::BITS + u32::from(network.prefix_len());
            map.insert(&Key::new(bits, key), segments, 0)
                .map_err(|error| RedirectError::of_map(doing, error))?;
        }
        Ok(RulesId(id))
    }

    /// Removes rules. Policies that still refer to them treat every connection as if HNP were gone.
    ///
    /// # Errors
    /// When the kernel does not let the map be changed.
    pub fn remove_rules(&mut self, id: RulesId) -> Result<(), RedirectError> {
        let keys = self.rule_keys()?;
        let mut map: LpmTrie<_, RuleKey, Segments> = self.map_mut(RULES)?;
        for key in keys.into_iter().filter(|key| key.data().rules == id.0) {
            map.remove(&key)
                .map_err(|error| RedirectError::of_map("remove rules", error))?;
        }
        Ok(())
    }

    /// How many prefixes the rules in the kernel have, of all sets together.
    ///
    /// # Errors
    /// When the kernel does not let the map be read.
    pub fn rules_len(&self) -> Result<usize, RedirectError> {
        Ok(self.rule_keys()?.len())
    }

    pub(super) fn rule_keys(&self) -> Result<Vec<Key<RuleKey>>, RedirectError> {
        let map: LpmTrie<_, RuleKey, Segments> = self.map(RULES)?;
        map.keys()
            .collect::<Result<_, _>>()
            .map_err(|error| RedirectError::of_map("read rules", error))
    }
}
