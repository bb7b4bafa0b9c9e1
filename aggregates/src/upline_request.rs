//! The UplineRequest aggregate: a child may never act on its parent; it asks, and polls for the answer.
//!
//! `pending → (forwarded …) → completed | rejected | failed | cancelled | expired`; a decided request never changes again.
//! Who may answer, and the effect of an approval in the same commit, are the ledger's.

use cqrs_es::event_sink::EventSink;
use cqrs_es::{Aggregate, DomainEvent};
use serde::{Deserialize, Serialize};

use crate::primitives::{
    Amount, Authority, Level, ReferralCode, ReferralTag, RequestId, RequestKind, RequestStatus, ResellerId, Sku, Text,
    Tier, Timestamp, TransferId, UserId,
};
use crate::rejection::Rejection;

/// What a reseller asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(tag = "kind", content = "payload", rename_all = "snake_case")]
pub enum Ask {
    /// A referral code with this tag.
    ReferralCode {
        /// What the code is for.
        tag: ReferralTag,
    },
    /// Credits.
    CreditTopup {
        /// How many.
        amount: Amount,
    },
    /// A higher tier.
    TierUpgrade {
        /// Which.
        tier: Tier,
    },
    /// A price for one product.
    PriceChange {
        /// The product.
        sku: Sku,
        /// What one unit should cost.
        cost: Level,
    },
    /// Anything else.
    Generic {
        /// In short.
        subject: Text,
        /// At length.
        body: Text,
    },
}

impl Ask {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> RequestKind {
        match self {
            Self::ReferralCode { .. } => RequestKind::ReferralCode,
            Self::CreditTopup { .. } => RequestKind::CreditTopup,
            Self::TierUpgrade { .. } => RequestKind::TierUpgrade,
            Self::PriceChange { .. } => RequestKind::PriceChange,
            Self::Generic { .. } => RequestKind::Generic,
        }
    }
}

/// Who is to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Addressee {
    /// An ancestor of the requester.
    Reseller(ResellerId),
    /// The operator.
    Platform,
}

impl From<Addressee> for Authority {
    fn from(addressee: Addressee) -> Self {
        match addressee {
            Addressee::Reseller(id) => Self::Reseller(id),
            Addressee::Platform => Self::Platform,
        }
    }
}

/// What came of a completed request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The code that was issued.
    ReferralCode(ReferralCode),
    /// The transfer that paid it; `None` where the platform added the credits.
    Credits {
        /// The transfer.
        transfer_id: Option<TransferId>,
    },
    /// The tier from here on.
    Tier(Tier),
    /// The price from here on.
    Price(Level),
    /// In words.
    Answer(Option<Text>),
}

/// What can be asked of an upline request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UplineRequestCommand {
    /// Raise it.
    Raise {
        /// Its identity.
        request: RequestId,
        /// Who asks.
        requester: ResellerId,
        /// Which user raised it.
        raised_by: UserId,
        /// What for.
        ask: Ask,
        /// Who is to answer.
        addressed_to: Addressee,
        /// When it expires.
        expires_at: Timestamp,
    },
    /// Pass it on to the next one up.
    Forward(Addressee),
    /// Approve it.
    Complete(Addressee, Outcome),
    /// Refuse it.
    Reject(Option<Text>),
    /// Take it back.
    Cancel,
    /// Nobody answered in time.
    Expire(Timestamp),
    /// It cannot be done.
    Fail(Text),
}

/// What has happened to an upline request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum UplineRequestEvent {
    /// It was raised.
    UplineRequestRaised {
        /// Its identity.
        request: RequestId,
        /// Who asks.
        requester: ResellerId,
        /// Which user raised it.
        raised_by: UserId,
        /// What for.
        ask: Ask,
        /// Who is to answer.
        addressed_to: Addressee,
        /// When it expires.
        expires_at: Timestamp,
    },
    /// It was passed on.
    UplineRequestForwarded {
        /// Who passed it on.
        from: Addressee,
        /// Who is to answer now.
        to: Addressee,
    },
    /// It was approved, and its effect is in the same commit.
    UplineRequestCompleted {
        /// Who approved it.
        by: Addressee,
        /// What came of it.
        result: Outcome,
    },
    /// It was refused.
    UplineRequestRejected {
        /// Why.
        reason: Option<Text>,
    },
    /// It was taken back.
    UplineRequestCancelled {},
    /// Nobody answered in time.
    UplineRequestExpired {},
    /// It could not be done.
    UplineRequestFailed {
        /// Why.
        reason: Text,
    },
}

crate::event::domain_event!(UplineRequestEvent {
    UplineRequestRaised,
    UplineRequestForwarded,
    UplineRequestCompleted,
    UplineRequestRejected,
    UplineRequestCancelled,
    UplineRequestExpired,
    UplineRequestFailed
});

/// An upline request. `raised` is `None` before it is raised.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplineRequest {
    /// What it is.
    pub raised: Option<Raised>,
}

/// A request that has been raised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raised {
    /// Who asks.
    pub requester: ResellerId,
    /// Which user raised it.
    pub raised_by: UserId,
    /// What for.
    pub ask: Ask,
    /// Who is to answer now.
    pub addressed_to: Addressee,
    /// When it expires.
    pub expires_at: Timestamp,
    /// Where it stands.
    pub status: RequestStatus,
    /// What came of it, once completed.
    pub result: Option<Outcome>,
}

impl UplineRequest {
    /// # Errors
    /// `not_found` before it is raised, `invalid_transition` once it is decided.
    pub fn decide(&self, command: &UplineRequestCommand) -> Result<Vec<UplineRequestEvent>, Rejection> {
        let Some(raised) = &self.raised else {
            return match command.clone() {
                UplineRequestCommand::Raise { request, requester, raised_by, ask, addressed_to, expires_at } => {
                    let raised = UplineRequestEvent::UplineRequestRaised {
                        request,
                        requester,
                        raised_by,
                        ask,
                        addressed_to,
                        expires_at,
                    };
                    Ok(vec![raised])
                }
                _ => Err(Rejection::not_found("upline request")),
            };
        };
        let to = match command {
            UplineRequestCommand::Raise { .. } => {
                return Err(Rejection::AlreadyExists { what: "the upline request".into() });
            }
            UplineRequestCommand::Forward(_) => "forwarded",
            UplineRequestCommand::Complete(..) => "completed",
            UplineRequestCommand::Reject(_) => "rejected",
            UplineRequestCommand::Cancel => "cancelled",
            UplineRequestCommand::Expire(_) => "expired",
            UplineRequestCommand::Fail(_) => "failed",
        };
        if raised.status != RequestStatus::Pending {
            return Err(Rejection::transition("the upline request", raised.status, to));
        }
        Ok(vec![match command.clone() {
            UplineRequestCommand::Raise { .. } => return Ok(Vec::new()),
            UplineRequestCommand::Forward(to) => {
                UplineRequestEvent::UplineRequestForwarded { from: raised.addressed_to, to }
            }
            UplineRequestCommand::Complete(by, result) => UplineRequestEvent::UplineRequestCompleted { by, result },
            UplineRequestCommand::Reject(reason) => UplineRequestEvent::UplineRequestRejected { reason },
            UplineRequestCommand::Cancel => UplineRequestEvent::UplineRequestCancelled {},
            UplineRequestCommand::Expire(now) if now < raised.expires_at => {
                return Err(Rejection::transition("the upline request", "not due", "expired"));
            }
            UplineRequestCommand::Expire(_) => UplineRequestEvent::UplineRequestExpired {},
            UplineRequestCommand::Fail(reason) => UplineRequestEvent::UplineRequestFailed { reason },
        }])
    }

    /// Folds one event.
    pub fn fold(&mut self, event: &UplineRequestEvent) {
        if let UplineRequestEvent::UplineRequestRaised { requester, raised_by, ask, addressed_to, expires_at, .. } =
            event
        {
            self.raised = Some(Raised {
                requester: *requester,
                raised_by: raised_by.clone(),
                ask: ask.clone(),
                addressed_to: *addressed_to,
                expires_at: *expires_at,
                status: RequestStatus::Pending,
                result: None,
            });
        }
        // Only a raising comes before the rest; `decide` sees to that.
        let Some(raised) = self.raised.as_mut() else { return };
        match event {
            UplineRequestEvent::UplineRequestRaised { .. } => {}
            UplineRequestEvent::UplineRequestForwarded { to, .. } => raised.addressed_to = *to,
            UplineRequestEvent::UplineRequestCompleted { result, .. } => {
                raised.status = RequestStatus::Completed;
                raised.result = Some(result.clone());
            }
            UplineRequestEvent::UplineRequestRejected { .. } => raised.status = RequestStatus::Rejected,
            UplineRequestEvent::UplineRequestCancelled {} => raised.status = RequestStatus::Cancelled,
            UplineRequestEvent::UplineRequestExpired {} => raised.status = RequestStatus::Expired,
            UplineRequestEvent::UplineRequestFailed { .. } => raised.status = RequestStatus::Failed,
        }
    }
}

crate::event::cqrs_aggregate!(UplineRequest, "UplineRequest", UplineRequestCommand, UplineRequestEvent);

#[cfg(test)]
mod tests {
    use super::*;
    use cqrs_es::test::TestFramework;
    use uuid::Uuid;

    fn raised() -> UplineRequestEvent {
        UplineRequestEvent::UplineRequestRaised {
            request: RequestId(Uuid::nil()),
            requester: ResellerId(Uuid::from_u128(1)),
            raised_by: UserId::new("user-1").expect("user"),
            ask: Ask::CreditTopup { amount: Amount::new(100).expect("amount") },
            addressed_to: Addressee::Platform,
            expires_at: Timestamp::from_micros(100),
        }
    }

    #[test]
    fn a_decided_request_never_changes_again() {
        let decisions = [
            UplineRequestEvent::UplineRequestRejected { reason: None },
            UplineRequestEvent::UplineRequestCancelled {},
            UplineRequestEvent::UplineRequestExpired {},
            UplineRequestEvent::UplineRequestFailed { reason: Text::new("gone").expect("text") },
            UplineRequestEvent::UplineRequestCompleted { by: Addressee::Platform, result: Outcome::Answer(None) },
        ];
        for decision in decisions {
            for command in [
                UplineRequestCommand::Complete(Addressee::Platform, Outcome::Answer(None)),
                UplineRequestCommand::Cancel,
                UplineRequestCommand::Forward(Addressee::Platform),
            ] {
                let result = TestFramework::<UplineRequest>::with(())
                    .given(vec![raised(), decision.clone()])
                    .when(command)
                    .inspect_result();
                assert!(matches!(result, Err(Rejection::InvalidTransition { .. })), "{decision:?}");
            }
        }
    }

    #[test]
    fn a_request_expires_when_its_time_has_come_and_not_before() {
        let expire = |micros| {
            TestFramework::<UplineRequest>::with(())
                .given(vec![raised()])
                .when(UplineRequestCommand::Expire(Timestamp::from_micros(micros)))
        };
        expire(99).then_expect_error(Rejection::transition("the upline request", "not due", "expired"));
        expire(100).then_expect_events(vec![UplineRequestEvent::UplineRequestExpired {}]);
    }
}
