//! Commands about clients. A client is its owner's and the platform's; for everybody else, the owner's upline included, it is
//! not there.

use crate::answer::Answer;
use crate::client::{Client, ClientCommand, ClientDetails};
use crate::command::{ClientPatch, ClientStep, Command};
use crate::primitives::{ClientId, ResellerId, Role};
use crate::rejection::Rejection;
use crate::reseller::{check_metadata, merge};

use super::authority::{Standing, forbidden, unseen};
use super::draft::{Decided, Draft};

impl Draft<'_> {
    pub(super) fn decide_client(&mut self, command: &Command) -> Decided<Answer> {
        match command {
            Command::OnboardClient { client, owner, details } => self.onboard_client(*client, *owner, details),
            Command::ChangeClient { client, patch } => self.change_client(*client, patch),
            Command::StepClient { client, step } => self.step_client(*client, *step),
            Command::ReassignClient { client, owner } => self.reassign_client(*client, *owner),
            _ => Err(Rejection::not_found("command").into()),
        }
    }

    fn onboard_client(&mut self, id: ClientId, owner: Option<ResellerId>, details: &ClientDetails) -> Decided<Answer> {
        let owner = match (self.actor().role, self.actor().tenant, owner) {
            (Role::Reseller, Some(tenant), None) => tenant,
            (_, _, Some(owner)) => owner,
            (Role::SuperAdmin, ..) => {
                return Err(
                    Rejection::invalid("/reseller_id", "must name the reseller that the client belongs to").into()
                );
            }
            _ => return Err(forbidden("clients are onboarded by their reseller or the platform").into()),
        };
        self.itself_or_platform(owner, "reseller")?;
        self.check_active(owner)?;
        check_metadata(&details.metadata)?;
        let onboard = ClientCommand::Onboard { client: id, owner, details_hash: details.hash(), now: self.now };
        self.order::<Client>(&id, &onboard)?;
        self.put_personal_data(id, Some(details.clone()));
        self.client_answer(id, Some(details))
    }

    fn change_client(&mut self, id: ClientId, patch: &ClientPatch) -> Decided<Answer> {
        self.own_client(id)?;
        let Some(current) = self.personal_data(id)?.cloned() else {
            // Its personal data has been erased: the aggregate says so.
            self.order::<Client>(&id, &ClientCommand::ChangeDetails { details_hash: String::new() })?;
            return Err(Rejection::not_found("client").into());
        };
        let mut details = current.clone();
        if let Some(name) = &patch.name {
            details.name = name.clone();
        }
        if let Some(email) = &patch.email {
            details.email.clone_from(email);
        }
        if let Some(metadata) = &patch.metadata {
            merge(&mut details.metadata, metadata);
            check_metadata(&details.metadata)?;
        }
        if details == current {
            return self.client_answer(id, Some(&current));
        }
        details.salt.clone_from(&patch.salt);
        self.order::<Client>(&id, &ClientCommand::ChangeDetails { details_hash: details.hash() })?;
        self.put_personal_data(id, Some(details.clone()));
        self.client_answer(id, Some(&details))
    }

    fn step_client(&mut self, id: ClientId, step: ClientStep) -> Decided<Answer> {
        self.own_client(id)?;
        let command = match step {
            ClientStep::Activate => ClientCommand::Activate,
            ClientStep::Suspend => ClientCommand::Suspend,
            ClientStep::Deactivate => ClientCommand::Deactivate,
            ClientStep::Forget => ClientCommand::Forget,
        };
        let details = self.personal_data(id)?.cloned();
        self.order::<Client>(&id, &command)?;
        if step == ClientStep::Forget {
            self.put_personal_data(id, None);
            return self.client_answer(id, None);
        }
        self.client_answer(id, details.as_ref())
    }

    fn reassign_client(&mut self, id: ClientId, owner: ResellerId) -> Decided<Answer> {
        if self.own_client(id)? != Standing::Platform {
            return Err(forbidden("clients are reassigned by the platform").into());
        }
        if self.network().get(owner).is_none() {
            return Err(Rejection::not_found("reseller").into());
        }
        let details = self.personal_data(id)?.cloned();
        self.order::<Client>(&id, &ClientCommand::Reassign { owner })?;
        self.client_answer(id, details.as_ref())
    }

    /// The actor's standing towards a client's owner: the owner itself or the platform. To anybody else it is not there.
    fn own_client(&self, id: ClientId) -> Decided<Standing> {
        if matches!(self.actor().role, Role::Auditor | Role::Finance | Role::Payments) {
            return Err(forbidden("clients are their reseller's and the platform's to change").into());
        }
        let Some(owner) = self.get::<Client>(&id)?.owner else { return Err(unseen("client").into()) };
        match self.standing(owner, "client")? {
            standing @ (Standing::Platform | Standing::Itself(_)) => Ok(standing),
            _ => Err(unseen("client").into()),
        }
    }
}
