//! Commands of the network: upline requests, referral codes, settings: `/reseller-network…`.

use std::collections::BTreeMap;

use aggregates::answer::Answer;
use aggregates::command::Command;
use aggregates::primitives::{
    Amount, BECOME_PARTNER, Level, Percent, ReferralCode, ReferralTag, RequestId, ResellerId, Sku, Text, Tier,
    TransferId,
};
use aggregates::reseller::SettingsPatch;
use aggregates::upline_request::Ask;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IntoDeserializer};

use super::{EmptyBody, ReasonBody, present};
use crate::http::Shared;
use crate::http::error::Problem;
use crate::http::extract::{CommandRequest, Object, escape};
use crate::http::{fresh, parameters};

/// What a reseller asks for; [`Ask`] with the strictness of a request.
#[derive(Deserialize)]
#[serde(tag = "kind", content = "payload", rename_all = "snake_case", deny_unknown_fields)]
enum AskBody {
    ReferralCode(Object<ReferralPayload>),
    CreditTopup(Object<TopupPayload>),
    TierUpgrade(Object<TierPayload>),
    PriceChange(Object<PricePayload>),
    Generic(Object<GenericPayload>),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReferralPayload {
    #[serde(default)]
    tag: Option<ReferralTag>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TopupPayload {
    amount: Amount,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TierPayload {
    tier: Tier,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PricePayload {
    sku: Sku,
    cost: Level,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GenericPayload {
    subject: Text,
    body: Text,
}

impl ReferralPayload {
    fn ask(self) -> Result<Ask, Problem> {
        let tag = match self.tag {
            Some(tag) => tag,
            None => ReferralTag::new(BECOME_PARTNER).map_err(|error| Problem::internal(&error))?,
        };
        Ok(Ask::ReferralCode { tag })
    }
}

impl AskBody {
    fn ask(self) -> Result<Ask, Problem> {
        Ok(match self {
            Self::ReferralCode(Object(payload)) => return payload.ask(),
            Self::CreditTopup(Object(TopupPayload { amount })) => Ask::CreditTopup { amount },
            Self::TierUpgrade(Object(TierPayload { tier })) => Ask::TierUpgrade { tier },
            Self::PriceChange(Object(PricePayload { sku, cost })) => Ask::PriceChange { sku, cost },
            Self::Generic(Object(GenericPayload { subject, body })) => Ask::Generic { subject, body },
        })
    }
}

/// POST `/reseller-network/upline/request`
pub(crate) async fn raise(State(service): State<Shared>, request: CommandRequest) -> Result<Response, Problem> {
    let body: AskBody = request.body()?;
    raise_request(&service, request, body.ask()?).await
}

/// POST `/reseller-network/referrals`
pub(crate) async fn ask_for_referral_code(
    State(service): State<Shared>,
    request: CommandRequest,
) -> Result<Response, Problem> {
    let body: ReferralPayload = request.body_or_default()?;
    raise_request(&service, request, body.ask()?).await
}

async fn raise_request(service: &Shared, request: CommandRequest, ask: Ask) -> Result<Response, Problem> {
    let Some(requester) = request.actor.tenant else {
        return Err(Problem::new("forbidden", "only a reseller has an upline to ask"));
    };
    let id = RequestId(fresh::id(service.clock.now()));
    let answered = request.submit(service, Command::RaiseRequest { request: id, requester, ask }).await?;
    // A repetition is told the first request's id, not this one's.
    let id = match &answered.answer {
        Answer::Request(view) => view.id,
        _ => id,
    };
    answered.accepted(&format!("/reseller-network/upline/request/{id}"))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApproveBody {
    #[serde(default)]
    note: Option<Text>,
}

/// POST `/reseller-network/upline/request/{id}/approve`
pub(crate) async fn approve(
    State(service): State<Shared>,
    request: CommandRequest<RequestId>,
) -> Result<Response, Problem> {
    let ApproveBody { note } = request.body_or_default()?;
    let command = Command::ApproveRequest {
        request: request.path,
        transfer_id: TransferId(fresh::id(service.clock.now())),
        code: fresh::referral_code().map_err(|error| Problem::internal(&error))?,
        note,
    };
    request.submit(&service, command).await?.ok()
}

/// POST `/reseller-network/upline/request/{id}/reject`
pub(crate) async fn reject(
    State(service): State<Shared>,
    request: CommandRequest<RequestId>,
) -> Result<Response, Problem> {
    let ReasonBody { reason } = request.body_or_default()?;
    let id = request.path;
    request.submit(&service, Command::RejectRequest { request: id, reason }).await?.ok()
}

/// POST `/reseller-network/upline/request/{id}/cancel`
pub(crate) async fn cancel(
    State(service): State<Shared>,
    request: CommandRequest<RequestId>,
) -> Result<Response, Problem> {
    let EmptyBody {} = request.body_or_default()?;
    let id = request.path;
    request.submit(&service, Command::CancelRequest { request: id }).await?.ok()
}

/// POST `/reseller-network/upline/request/{id}/forward`
pub(crate) async fn forward(
    State(service): State<Shared>,
    request: CommandRequest<RequestId>,
) -> Result<Response, Problem> {
    let EmptyBody {} = request.body_or_default()?;
    let id = request.path;
    request.submit(&service, Command::ForwardRequest { request: id }).await?.ok()
}

/// DELETE `/reseller-network/referrals/{code}`
pub(crate) async fn revoke_referral_code(
    State(service): State<Shared>,
    mut request: CommandRequest<ReferralCode>,
) -> Result<Response, Problem> {
    let EmptyBody {} = request.body_or_default()?;
    let reseller = target(&mut request)?;
    let code = request.path.clone();
    request.submit(&service, Command::RevokeReferralCode { reseller, code }).await?.ok()
}

/// New settings; what is absent stays, and `margin_percent: null` clears it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingsBody {
    #[serde(default)]
    auto_forward: BTreeMap<String, bool>,
    #[serde(default)]
    notifications: BTreeMap<String, bool>,
    #[serde(default, deserialize_with = "present")]
    margin_percent: Option<Option<Percent>>,
    #[serde(default)]
    allow_withdraw: Option<bool>,
    #[serde(default)]
    hold_on_low_credit: Option<bool>,
    #[serde(default)]
    low_credit_threshold: Option<Level>,
}

/// Switches by the words of a closed list. They are read as texts first, so that what is wrong is pointed at by its name.
fn switches<K: DeserializeOwned + Ord>(
    pointer: &str,
    named: BTreeMap<String, bool>,
) -> Result<BTreeMap<K, bool>, Problem> {
    let read = |(name, on): (String, bool)| match K::deserialize(name.as_str().into_deserializer()) {
        Ok(word) => Ok((word, on)),
        Err(error) => {
            let error: serde::de::value::Error = error;
            Err(Problem::invalid(format!("{pointer}/{}", escape(&name)), error.to_string()))
        }
    };
    named.into_iter().map(read).collect()
}

/// PUT `/reseller-network/settings`
pub(crate) async fn change_settings(
    State(service): State<Shared>,
    mut request: CommandRequest,
) -> Result<Response, Problem> {
    let body: SettingsBody = request.body()?;
    let reseller = target(&mut request)?;
    let patch = SettingsPatch {
        auto_forward: switches("/auto_forward", body.auto_forward)?,
        notifications: switches("/notifications", body.notifications)?,
        margin_percent: body.margin_percent,
        allow_withdraw: body.allow_withdraw,
        hold_on_low_credit: body.hold_on_low_credit,
    };
    let command = Command::ChangeSettings { reseller, patch, threshold: body.low_credit_threshold };
    request.submit(&service, command).await?.ok()
}

/// Whose settings or codes are meant: the caller's own, or the one that the platform names.
fn target<P>(request: &mut CommandRequest<P>) -> Result<ResellerId, Problem> {
    let named = request.parameters.take("reseller_id")?;
    parameters::own_or_named(&request.actor, named)?
        .ok_or_else(|| parameters::wrong("reseller_id", "name the reseller that is meant"))
}
