//! What the demo's platform sells.

use aggregates::primitives::Tier;

/// A product as the demo publishes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    pub(super) sku: &'static str,
    pub(super) name: &'static str,
    pub(super) base_cost: i64,
    pub(super) minimum_tier: Tier,
    pub(super) minimum_margin_percent: u32,
    /// How often it is asked for, compared to the others.
    pub(super) popularity: u32,
}

const fn item(
    sku: &'static str,
    name: &'static str,
    base_cost: i64,
    minimum_tier: Tier,
    minimum_margin_percent: u32,
    popularity: u32,
) -> Item {
    Item { sku, name, base_cost, minimum_tier, minimum_margin_percent, popularity }
}

/// The product that everybody may sell, and that the printed examples use.
pub(in crate::cli::demo) const EXAMPLE_SKU: &str = "vps-small";

/// What is sold from the first day on; the last one is taken off sale later.
pub(super) const FIRST: [Item; 12] = [
    item("mailbox", "Mailbox, 50 GB", 150, Tier::Standard, 0, 22),
    item("backup-100gb", "Backup, 100 GB", 450, Tier::Standard, 0, 12),
    item(EXAMPLE_SKU, "Virtual server, 2 cores", 900, Tier::Standard, 5, 20),
    item("vps-medium", "Virtual server, 4 cores", 1_800, Tier::Standard, 5, 11),
    item("vps-large", "Virtual server, 8 cores", 3_600, Tier::Standard, 5, 6),
    item("domain-com", "Domain .com, one year", 1_400, Tier::Standard, 0, 14),
    item("ssl-wildcard", "Wildcard certificate, one year", 5_200, Tier::Standard, 5, 4),
    item("pro-license", "Pro license, one seat", 2_400, Tier::Standard, 8, 14),
    item("team-license", "Team license, ten seats", 19_000, Tier::Standard, 8, 2),
    item("managed-db", "Managed database", 8_000, Tier::Gold, 10, 3),
    item("dedicated-server", "Dedicated server", 24_000, Tier::Platinum, 10, 1),
    item("webhosting-classic", "Web hosting, classic", 500, Tier::Standard, 0, 9),
];

/// Where in [`FIRST`] the product stands that is retired.
pub(super) const RETIRED: usize = 11;
/// Where in [`FIRST`] the product stands that is repriced.
pub(super) const REPRICED: usize = 3;

/// What is published later.
pub(super) const LATER: [Item; 2] = [
    item("object-storage-tb", "Object storage, 1 TB", 700, Tier::Standard, 5, 10),
    item("gpu-day", "GPU, one day", 4_800, Tier::Gold, 5, 4),
];
