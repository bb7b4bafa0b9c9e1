//! Clients: who owns them and where they stand.

use super::{Client, ClientStatus, Id, Naive, Role, Ruling, Step, Who, denied, ensure, permit};

impl Naive {
    pub(super) fn onboard(&mut self, who: &Who, id: Id, owner: Option<Id>) -> Ruling {
        let owner = match (owner, who.role) {
            (Some(owner), _) => owner,
            (None, Role::Reseller) => who.tenant.expect("a reseller's tenant"),
            (None, _) => return super::refused("invalid"),
        };
        self.seen(who, owner)?;
        permit(who.role == Role::SuperAdmin || who.tenant == Some(owner))?;
        self.must_be_active(owner)?;
        ensure(self.clients.iter().all(|client| client.id != id), "already_exists")?;
        self.clients.push(Client { id, owner, status: ClientStatus::Onboarded });
        self.done.changed = true;
        Ok(())
    }

    /// The client, where it is the actor's own or the actor is the platform.
    fn own_client(&mut self, who: &Who, id: Id) -> Ruling<&mut Client> {
        let mine = |owner: Id| who.role == Role::SuperAdmin || who.tenant == Some(owner);
        match self.clients.iter_mut().find(|client| client.id == id && mine(client.owner)) {
            Some(client) => Ok(client),
            None => denied("not_found"),
        }
    }

    pub(super) fn step_client(&mut self, who: &Who, id: Id, step: Step) -> Ruling {
        use ClientStatus::{Active, Deactivated, Forgotten, Onboarded, Suspended};
        let client = self.own_client(who, id)?;
        let (from, to): (&[ClientStatus], ClientStatus) = match step {
            Step::Activate => (&[Onboarded, Suspended], Active),
            Step::Suspend => (&[Active], Suspended),
            Step::Deactivate => (&[Onboarded, Active, Suspended], Deactivated),
            Step::Forget => (&[Onboarded, Active, Suspended, Deactivated], Forgotten),
        };
        ensure(from.contains(&client.status), "invalid_transition")?;
        client.status = to;
        self.done.changed = true;
        Ok(())
    }

    pub(super) fn reassign(&mut self, who: &Who, id: Id, owner: Id) -> Ruling {
        let client = self.own_client(who, id)?.clone();
        permit(who.role == Role::SuperAdmin)?;
        ensure(self.reseller(owner).is_some(), "not_found")?;
        ensure(client.status != ClientStatus::Forgotten, "invalid_transition")?;
        self.own_client(who, id)?.owner = owner;
        self.done.changed |= client.owner != owner;
        Ok(())
    }
}
