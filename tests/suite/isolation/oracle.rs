//! What DOMAIN and API say of every caller, route and target: written from the two pages, not from the code.

use super::routes::{About, Route, Rule};
use super::world::{MISSING, Place, Readers, SKUS, World};

/// How an id is written, told to whoever writes none.
const EXAMPLE: &str = "0190d3a5-7c1e-7b60-8f00-3d0f6c8e2a11";

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    SuperAdmin,
    Auditor,
    Finance,
    Payments,
    /// Somebody who acts for a reseller.
    Member(Place),
    /// No token, or none that is good.
    Nobody,
    /// A user of no reseller, who names none.
    Tenantless,
    /// A user who names a reseller that is not its own, or none there is.
    Elsewhere,
}

/// What must become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Its to ask; a command may still be refused by the rules.
    Allowed,
    /// Its to ask, and refused because somebody is frozen, held or not in business.
    Barred,
    /// Not its to ask, told by this status.
    Denied(u16),
}

/// What a request is about.
#[derive(Debug, Clone)]
pub struct Target {
    /// What it is to the caller.
    pub what: &'static str,
    pub ids: [String; 2],
    /// Whose it is; nobody's where there is no such thing.
    pub owner: Option<Place>,
    /// Its place among its like.
    pub place: usize,
    /// Whether there is such a thing.
    pub is_real: bool,
    /// Whether its id could be one.
    pub is_malformed: bool,
}

impl Target {
    fn new(what: &'static str, ids: [&str; 2], owner: Option<Place>, place: usize) -> Self {
        let is_real = owner.is_some();
        Self { what, ids: ids.map(str::to_owned), owner, place, is_real, is_malformed: false }
    }
}

/// What one reseller is to another.
fn relation(world: &World, viewer: Option<Place>, other: Place) -> &'static str {
    let parent = |place: Place| world.resellers[place].parent;
    let Some(viewer) = viewer else {
        return match (world.resellers[other].status, world.is_frozen(other), parent(other)) {
            ("active", false, None) => "top-level",
            ("active", false, Some(_)) => "further down",
            ("active", true, _) => "frozen",
            (status, ..) => status,
        };
    };
    match () {
        () if viewer == other => "itself",
        () if parent(other) == Some(viewer) => "child",
        () if world.sees(viewer, other) => "grandchild",
        () if parent(viewer) == Some(other) => "parent",
        () if world.sees(other, viewer) => "grandparent",
        () if parent(viewer) == parent(other) && parent(viewer).is_some() => "sibling",
        () if shares_a_tree(world, viewer, other) => "cousin",
        () => "foreign",
    }
}

fn shares_a_tree(world: &World, one: Place, other: Place) -> bool {
    world.line(one).iter().any(|place| world.resellers[*place].parent.is_none() && world.line(other).contains(place))
}

/// One target of each kind there is for this caller, or all there are; one that is missing; some that are malformed.
pub fn targets(world: &mut World, who: Who, about: About, all: bool) -> Vec<Target> {
    let viewer = match who {
        Who::Member(place) => Some(place),
        _ => None,
    };
    let mut real: Vec<Target> = Vec::new();
    let mut unreal: Vec<Target> = Vec::new();
    let to = |owner| relation(world, viewer, owner);
    match about {
        About::Nothing => return vec![Target::new("nothing", ["", ""], None, 0)],
        About::Product => {
            return vec![
                Target::new("product", [SKUS[1], ""], Some(0), 1),
                Target::new("missing", ["none", ""], None, 0),
            ];
        }
        About::Reseller => {
            for (place, one) in world.resellers.iter().enumerate() {
                real.push(Target::new(to(place), [&one.id, ""], Some(place), place));
            }
            unreal.push(Target::new("missing", [MISSING, ""], None, 0));
            let capitals = world.resellers[1].id.to_uppercase();
            for id in ["not-an-id", &capitals] {
                unreal.push(Target { is_malformed: true, ..Target::new("malformed", [id, ""], None, 0) });
            }
        }
        About::Client => {
            for (place, one) in world.clients.iter().enumerate() {
                real.push(Target::new(to(one.owner), [&one.id, ""], Some(one.owner), place));
            }
            unreal.push(Target::new("missing", [MISSING, ""], None, 0));
            unreal.push(Target { is_malformed: true, ..Target::new("malformed", ["x", ""], None, 0) });
        }
        About::Request => {
            for (place, one) in world.requests.iter().enumerate() {
                real.push(Target::new(to(one.requester), [&one.id, ""], Some(one.requester), place));
            }
            unreal.push(Target::new("missing", [MISSING, ""], None, 0));
            unreal.push(Target { is_malformed: true, ..Target::new("malformed", ["x", ""], None, 0) });
        }
        About::Code => {
            for (place, one) in world.codes.iter().enumerate() {
                real.push(Target::new(
                    to(one.owner),
                    [&one.id, &world.resellers[one.owner].id],
                    Some(one.owner),
                    place,
                ));
            }
            unreal.push(Target::new("missing", ["ABCDEFGHABCDEFGH", MISSING], None, 0));
        }
        About::Provision | About::Transfer => {
            let things: Vec<(Place, &str)> = match about {
                About::Provision => world.provisions.iter().map(|one| (one.owner, one.id.as_str())).collect(),
                _ => world.transfers.iter().flat_map(|one| [(one.from, &*one.id), (one.to, &*one.id)]).collect(),
            };
            for (place, (wallet, id)) in things.iter().enumerate() {
                real.push(Target::new(to(*wallet), [&world.resellers[*wallet].id, id], Some(*wallet), place));
                // Under a wallet that it has nothing to do with: first of all the caller's own.
                let mine = viewer.unwrap_or(0);
                let touched = things.iter().any(|(other, same)| *other == mine && same == id);
                if !touched {
                    let target =
                        Target::new("another's under this wallet", [&world.resellers[mine].id, id], Some(mine), 0);
                    unreal.push(Target { is_real: false, ..target });
                }
            }
            unreal.truncate(if all { unreal.len() } else { 2 });
            let mine = world.resellers[viewer.unwrap_or(0)].id.as_str();
            let missing = Target::new("missing under this wallet", [mine, MISSING], viewer.or(Some(0)), 0);
            unreal.push(Target { is_real: false, ..missing });
            unreal.push(Target::new("missing", [MISSING, MISSING], None, 0));
            unreal.push(Target { is_malformed: true, ..Target::new("malformed", [mine, "x"], None, 0) });
        }
    }
    if !all {
        let kinds: std::collections::BTreeSet<&str> = real.iter().map(|target| target.what).collect();
        let mut chosen = Vec::new();
        for kind in kinds {
            let alike: Vec<usize> = (0..real.len()).filter(|at| real[*at].what == kind).collect();
            chosen.extend(world.pick(&alike).map(|at| real[at].clone()));
        }
        real = chosen;
    }
    real.extend(unreal);
    real
}

/// The first child of a reseller, to which it might send credits.
pub fn first_child(world: &World, place: Place) -> Option<Place> {
    (0..world.resellers.len()).find(|child| world.resellers[*child].parent == Some(place))
}

/// Whose `{own}` is, in a request.
pub fn own(who: Who) -> Place {
    match who {
        Who::Member(place) => place,
        _ => 0,
    }
}

/// What must become of a request.
pub fn verdict(world: &World, who: Who, route: &Route, target: &Target) -> Verdict {
    use Verdict::{Allowed, Denied};
    let reads = route.method == "GET";
    match who {
        Who::Nobody => return Denied(401),
        Who::Tenantless => return Denied(400),
        Who::Elsewhere => return Denied(404),
        Who::Payments if route.rule != Rule::Credits => return Denied(403),
        Who::Finance if route.rule == Rule::CloseBooks => return Allowed,
        Who::Auditor | Who::Finance if !reads && route.rule != Rule::ReadLog => return Denied(403),
        _ => {}
    }
    match (route.rule, who) {
        (Rule::ReadLog, Who::SuperAdmin | Who::Auditor) => return Allowed,
        (Rule::ReadLog, _) | (Rule::ReadByStaff, Who::Member(_)) => return Denied(403),
        (Rule::ReadLogOf, Who::SuperAdmin | Who::Auditor) if !target.is_malformed => {
            return if target.is_real { Allowed } else { Denied(404) };
        }
        // What a path names is read before who asks is looked at.
        (Rule::ReadLogOfNone, Who::SuperAdmin | Who::Auditor) => return Denied(404),
        (Rule::ReadLogOf | Rule::ReadLogOfNone, Who::Member(_) | Who::Finance)
            if !(target.is_malformed && names_in_path(route)) =>
        {
            return Denied(403);
        }
        (Rule::ReadClients, Who::Finance) => return Denied(403),
        (Rule::ReadClient, Who::Finance) if !target.is_malformed => return Denied(403),
        (Rule::PlatformAlone | Rule::CloseBooks | Rule::Raise, _) => {}
        _ if target.is_malformed => {
            return Denied(if names_in_path(route) { 404 } else { 422 });
        }
        _ => {}
    }
    match who {
        Who::Member(me) => for_member(world, me, route, target),
        _ => for_staff(world, who, route, target),
    }
}

fn barred_unless(condition: bool) -> Verdict {
    if condition { Verdict::Allowed } else { Verdict::Barred }
}

/// Whether the route's path names the target, and not its query string or its body.
fn names_in_path(route: &Route) -> bool {
    route.ask.split('?').next().is_some_and(|path| path.contains("{id}"))
}

/// The operator, whatever its rules; auditors and finance where they read; the payment system where it pays.
fn for_staff(world: &World, who: Who, route: &Route, target: &Target) -> Verdict {
    use Verdict::{Allowed, Denied};
    let in_business = |place: Place| world.is_active(place) && !world.is_frozen(place);
    let there = |verdict: fn(&World, Place) -> Verdict| match target.owner.filter(|_| target.is_real) {
        Some(owner) => verdict(world, owner),
        None => Denied(404),
    };
    match route.rule {
        Rule::Read
        | Rule::ReadByStaff
        | Rule::ReadClients
        | Rule::PlatformAlone
        | Rule::CloseBooks
        | Rule::ReadLog
        | Rule::ReadLogOf
        | Rule::ReadLogOfNone => {
            if route.about == About::Product && !target.is_real {
                Denied(404)
            } else {
                Allowed
            }
        }
        Rule::ReadOwnUnnamed => Denied(422),
        Rule::Raise | Rule::Cancel if target.is_real || route.rule == Rule::Raise => Denied(403),
        Rule::OwnNamed if route.about == About::Code && !route.ask.contains("{id2}") => Denied(422),
        Rule::Register => match target.owner {
            Some(parent) => barred_unless(in_business(parent)),
            None => Denied(404),
        },
        Rule::ItselfUnfrozen => match target.owner {
            Some(owner) => barred_unless(in_business(owner) && !world.is_held(owner)),
            None => Denied(404),
        },
        Rule::Onboard => match target.owner {
            Some(owner) => barred_unless(world.is_active(owner)),
            None => Denied(404),
        },
        Rule::Parent => there(|world, owner| match world.resellers[owner].parent {
            None => Allowed,
            Some(_) => Denied(403),
        }),
        Rule::TransferFrom => match target.owner {
            Some(from) if first_child(world, from).is_some() => barred_unless(in_business(from)),
            _ => Denied(404),
        },
        Rule::TransferTo => match target.owner {
            Some(to) if world.resellers[to].parent == Some(own(who)) => barred_unless(in_business(own(who))),
            Some(_) => Denied(403),
            None => Denied(404),
        },
        Rule::TakeBack => target.owner.map_or(Denied(404), |_| Denied(403)),
        Rule::SellToClient => match target.owner {
            Some(owner) if owner == own(who) => Allowed,
            _ => Denied(404),
        },
        Rule::Answer | Rule::Forward => match target.is_real.then(|| world.requests[target.place].put_to.last()) {
            Some(Some(None)) => Allowed,
            Some(_) => Denied(403),
            None => Denied(404),
        },
        _ => there(|_, _| Allowed),
    }
}

fn for_member(world: &World, me: Place, route: &Route, target: &Target) -> Verdict {
    use Verdict::{Allowed, Denied};
    let active = world.is_active(me);
    let in_business = active && !world.is_frozen(me);
    let owner = target.owner;
    let mine = owner == Some(me);
    let seen = owner.is_some_and(|owner| world.sees(me, owner));
    // In sight, but somebody else's to do: that is said. Else there is nothing.
    let not_mine = if seen { Denied(403) } else { Denied(404) };
    let child_of_mine = owner.is_some_and(|owner| world.resellers[owner].parent == Some(me));
    match route.rule {
        Rule::Read | Rule::ReadOwnUnnamed | Rule::ReadClients => Allowed,
        Rule::ReadByStaff
        | Rule::ReadLog
        | Rule::ReadLogOf
        | Rule::ReadLogOfNone
        | Rule::PlatformAlone
        | Rule::CloseBooks => Denied(403),
        Rule::ReadInSight if route.about == About::Product => {
            if target.is_real {
                Allowed
            } else {
                Denied(404)
            }
        }
        Rule::ReadInSight if seen && target.is_real => Allowed,
        Rule::ReadOwn | Rule::ReadClient | Rule::Client if mine => Allowed,
        Rule::ReadInSight | Rule::ReadOwn | Rule::ReadClient | Rule::Client => Denied(404),
        Rule::Platform | Rule::Credits => not_mine,
        Rule::Itself if mine => Allowed,
        Rule::Onboard if mine => barred_unless(active),
        Rule::ItselfUnfrozen if mine => barred_unless(in_business && !world.is_held(me)),
        Rule::Register if mine => barred_unless(in_business),
        Rule::Itself | Rule::ItselfUnfrozen | Rule::Register | Rule::Onboard => not_mine,
        Rule::Line if mine => Allowed,
        Rule::Line if seen => barred_unless(active),
        Rule::Upline if seen && !mine => barred_unless(active),
        Rule::UplineUnfrozen if seen && !mine => barred_unless(in_business),
        Rule::Unfreeze if seen && !mine && in_business => {
            let laid_by = owner.and_then(|owner| world.resellers[owner].frozen_by);
            let is_higher = laid_by.is_some_and(|by| by.is_none_or(|by| !world.sees(me, by)));
            if is_higher { Denied(403) } else { Allowed }
        }
        Rule::Unfreeze if seen && !mine => Verdict::Barred,
        Rule::Parent if child_of_mine => barred_unless(active),
        Rule::Line | Rule::Upline | Rule::UplineUnfrozen | Rule::Unfreeze | Rule::Parent => not_mine,
        Rule::TransferFrom => match owner.filter(|_| seen).and_then(|from| first_child(world, from)) {
            None => Denied(404),
            Some(_) if mine => barred_unless(in_business),
            Some(_) => Denied(403),
        },
        Rule::TransferTo if child_of_mine => barred_unless(in_business),
        Rule::TransferTo => not_mine,
        Rule::TakeBack => match owner.filter(|_| child_of_mine) {
            Some(child) if world.resellers[child].allow_withdraw => barred_unless(active && !world.is_frozen(child)),
            _ => not_mine,
        },
        Rule::ClientPlatform => Denied(if mine { 403 } else { 404 }),
        Rule::SellToClient if !in_business || world.is_held(me) => Verdict::Barred,
        Rule::SellToClient => {
            if mine {
                Allowed
            } else {
                Denied(404)
            }
        }
        Rule::Raise => barred_unless(in_business),
        Rule::OwnNamed if mine && route.about == About::Code => Allowed,
        Rule::OwnNamed if mine => barred_unless(active),
        Rule::OwnNamed => Denied(404),
        Rule::ReadRequest | Rule::Answer | Rule::Forward | Rule::Cancel => {
            let Some(request) = target.is_real.then(|| &world.requests[target.place]) else { return Denied(404) };
            let addressed = request.put_to.last() == Some(&Some(me));
            match route.rule {
                _ if !world.sees_request(me, request) => Denied(404),
                Rule::ReadRequest => Allowed,
                Rule::Cancel if mine => Allowed,
                Rule::Answer if addressed => Allowed,
                Rule::Forward if addressed && request.kind != "price_change" => Allowed,
                _ => Denied(403),
            }
        }
    }
}

/// Whether somebody may know a secret.
pub fn may_know(who: Who, readers: &Readers) -> bool {
    match (who, readers) {
        (_, Readers::Everybody) | (Who::SuperAdmin | Who::Auditor, _) | (Who::Finance, Readers::These(_)) => true,
        (Who::Member(place), Readers::These(known) | Readers::Personal(known)) => known.contains(&place),
        _ => false,
    }
}

/// Every id, mark, reference and code in a text that its reader may not know, besides what it asked for itself.
pub fn leaks(world: &World, who: Who, asked: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if matches!(who, Who::SuperAdmin | Who::Auditor) {
        return found;
    }
    for word in words(text) {
        let known = match world.secrets.get(word) {
            Some(readers) => may_know(who, readers),
            // Ids are all in the book: one that is not came from nowhere, but for the one that shows how ids are written.
            None => word.len() != 36 || word == EXAMPLE,
        };
        if !known && !asked.contains(word) {
            found.push(word.to_owned());
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The ids, marks, references and codes in a text.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let letters = |word: &&str| word.len() == 7 && word.starts_with("zq");
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .flat_map(move |word| std::iter::once(word).chain(word.split('-').filter(letters)))
        .filter(move |word| is_id(word) || letters(word) || word.starts_with("RS-") || word.len() == 16)
}

fn is_id(word: &str) -> bool {
    word.len() == 36 && word.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && !word.contains(|c: char| c >= 'g')
}
