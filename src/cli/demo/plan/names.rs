//! Names for companies and people, none of them anybody's.

use std::collections::HashSet;

use rand::Rng;
use rand::rngs::StdRng;

const HEADS: [&str; 64] = [
    "Amberfield",
    "Arbor",
    "Aspenline",
    "Bluepeak",
    "Brightwater",
    "Brookstone",
    "Cedarline",
    "Clearwell",
    "Cloudberry",
    "Copperleaf",
    "Crestline",
    "Daybreak",
    "Deltaview",
    "Driftwood",
    "Eastgate",
    "Elmwood",
    "Everly",
    "Fairhaven",
    "Fernhill",
    "Firstlight",
    "Foxglove",
    "Glenrock",
    "Goldcrest",
    "Granite Bay",
    "Greenfield",
    "Harborlight",
    "Hawthorn",
    "Highmoor",
    "Ironbridge",
    "Ivory Coast",
    "Juniper",
    "Kestrel",
    "Kingfisher",
    "Lakeshore",
    "Larkspur",
    "Limestone",
    "Linden",
    "Longmeadow",
    "Maplewood",
    "Marlow",
    "Meridian",
    "Millstone",
    "Moonrise",
    "Northgate",
    "Oakbridge",
    "Orchard",
    "Osprey",
    "Pinecrest",
    "Polaris",
    "Quarry Lane",
    "Redwing",
    "Ridgeway",
    "Riverbend",
    "Rosewood",
    "Sandpiper",
    "Silverlake",
    "Skylark",
    "Stonebridge",
    "Summerfield",
    "Tidewater",
    "Valley Forge",
    "Westbrook",
    "Willowdale",
    "Windmill",
];
const TRADES: [&str; 14] = [
    "Hosting",
    "Cloud",
    "Networks",
    "Systems",
    "Software",
    "Telecom",
    "Digital",
    "Data",
    "Solutions",
    "Consulting",
    "IT Services",
    "Internet",
    "Media",
    "Technologies",
];
const PLACES: [&str; 32] = [
    "Antwerp", "Bergen", "Bilbao", "Bologna", "Bristol", "Cork", "Dresden", "Gdansk", "Ghent", "Graz", "Haarlem",
    "Leeds", "Lille", "Linz", "Lyon", "Malmo", "Nantes", "Odense", "Oulu", "Porto", "Riga", "Sibiu", "Split",
    "Tallinn", "Tampere", "Trieste", "Turin", "Utrecht", "Valencia", "Vilnius", "York", "Zadar",
];
const FORMS: [&str; 8] = ["Ltd", "GmbH", "BV", "SAS", "AB", "Oy", "LLC", "Inc"];
const GIVEN: [&str; 32] = [
    "Ada", "Anton", "Bea", "Carlos", "Clara", "David", "Edith", "Emil", "Farid", "Greta", "Hanna", "Ivan", "Jana",
    "Jonas", "Kofi", "Lena", "Liam", "Maja", "Marco", "Mei", "Nadia", "Nils", "Olga", "Pablo", "Priya", "Rosa",
    "Samir", "Sofia", "Tariq", "Vera", "Yuki", "Zoe",
];
const FAMILY: [&str; 32] = [
    "Abbott", "Almeida", "Andersen", "Bauer", "Bianchi", "Castro", "Cohen", "Dubois", "Eriksen", "Fischer", "Garcia",
    "Haas", "Ivanova", "Jansen", "Keller", "Kowalski", "Larsen", "Lopez", "Mensah", "Moreau", "Nakamura", "Novak",
    "Okafor", "Olsen", "Patel", "Petrov", "Rossi", "Santos", "Singh", "Tanaka", "Virtanen", "Weber",
];

fn pick(rng: &mut StdRng, words: &[&'static str]) -> &'static str {
    words[rng.random_range(0..words.len())]
}

/// A company's name, and the short form of it that no other company has.
pub(super) fn company(rng: &mut StdRng, taken: &mut HashSet<String>) -> (String, String) {
    let mut name = format!("{} {}", pick(rng, &HEADS), pick(rng, &TRADES));
    if taken.contains(&short(&name)) {
        name = format!("{name} {}", pick(rng, &PLACES));
    }
    let plain = name.clone();
    let mut number = 2;
    while !taken.insert(short(&name)) {
        name = format!("{plain} {number}");
        number += 1;
    }
    let short = short(&name);
    (format!("{name} {}", pick(rng, &FORMS)), short)
}

/// A person's name and e-mail address.
pub(super) fn person(rng: &mut StdRng) -> (String, String) {
    let (given, family) = (pick(rng, &GIVEN), pick(rng, &FAMILY));
    let number = rng.random_range(1..1_000);
    (format!("{given} {family}"), format!("{}.{}{number}@example.org", given.to_lowercase(), family.to_lowercase()))
}

fn short(name: &str) -> String {
    name.to_lowercase().replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn no_two_companies_share_a_short_name() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut taken = HashSet::new();
        for _ in 0..40_000 {
            company(&mut rng, &mut taken);
        }
        assert_eq!(taken.len(), 40_000);
    }
}
