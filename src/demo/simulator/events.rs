//! The bodies of DoubleTick's webhooks, field by field as documented: absent values are empty strings, numbers are 0,
//! times have milliseconds. Decides nothing about what happens in a call; that is [`super::script`].

use jiff::Timestamp;
use serde_json::{Value, json};

use super::cast::{Agent, Cast, Customer};

/// What all events of one call have in common.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub call_id: &'a str,
    pub device_id: &'a str,
    pub customer: &'a Customer,
    pub agent: &'a Agent,
    pub outgoing: bool,
    /// An ordinary phone call, which has four more fields.
    pub pstn: bool,
}

/// How a conversation ended.
#[derive(Debug, Clone, Copy)]
pub struct Ending<'a> {
    pub started: Timestamp,
    pub ended: Timestamp,
    /// As the sender claims it, which is not always what the recording says.
    pub seconds: u64,
    pub by: &'a str,
    /// Empty where recording is off.
    pub recording_url: &'a str,
}

impl Facts<'_> {
    /// `CALL_INCOMING_INITIATED` or `CALL_OUTGOING_INITIATED`.
    pub fn initiated(&self) -> Value {
        if self.outgoing {
            let mut body = self.body("CALL_OUTGOING_INITIATED", "INITIATED");
            body["pickedBy"] = json!(self.agent.label());
            body
        } else {
            self.ringing("CALL_INCOMING_INITIATED")
        }
    }

    /// `CALL_NOT_PICKED`: one agent let it ring. The body doesn't say which.
    pub fn not_picked(&self) -> Value {
        self.ringing("CALL_NOT_PICKED")
    }

    pub fn accepted(&self, started: Timestamp) -> Value {
        let mut body = self.body("CALL_ACCEPTED", "IN_PROGRESS");
        body["callStartedAt"] = time(started);
        body["pickedBy"] = json!(self.agent.label());
        body
    }

    pub fn ended(&self, ending: Ending<'_>) -> Value {
        let mut body = self.ended_at(ending.ended);
        body["durationInSeconds"] = json!(ending.seconds);
        body["callStartedAt"] = time(ending.started);
        body["endedBy"] = json!(ending.by);
        body["recordingUrl"] = json!(ending.recording_url);
        body
    }

    /// An outgoing call that the agent gave up: `CALL_ENDED` without a start.
    pub fn given_up(&self, at: Timestamp) -> Value {
        let mut body = self.ended_at(at);
        body["endedBy"] = json!(self.agent.label());
        body
    }

    /// An outgoing call that never got through. The documentation has the status and the reason, but names no event of
    /// its own for it.
    pub fn failed(&self, at: Timestamp, reason: &str) -> Value {
        let mut body = self.ended_at(at);
        body["callStatus"] = json!("FAILED");
        body["failedReason"] = json!(reason);
        body
    }

    pub fn rejected(&self, at: Timestamp) -> Value {
        let mut body = self.body("CALL_REJECTED", "REJECT");
        body["callEndedAt"] = time(at);
        body["rejectedBy"] = json!(self.agent.label());
        body
    }

    pub fn missed(&self, at: Timestamp, new_caller: bool, chat_assigned: bool) -> Value {
        let mut body = self.body("CALL_MISSED", "MISSED");
        body["callEndedAt"] = time(at);
        body["isNewCaller"] = json!(new_caller);
        body["isChatAssigned"] = json!(chat_assigned);
        body
    }

    /// While it rings, an incoming call belongs to no conversation yet.
    fn ringing(&self, event: &str) -> Value {
        let mut body = self.body(event, "INITIATED");
        body["chatId"] = json!("");
        body
    }

    fn ended_at(&self, at: Timestamp) -> Value {
        let mut body = self.body("CALL_ENDED", "END");
        body["callEndedAt"] = time(at);
        body["pickedBy"] = json!(self.agent.label());
        body
    }

    /// The 19 fields, and four more for PSTN.
    fn body(&self, event: &str, status: &str) -> Value {
        let mut body = json!({
            "event": event,
            "callId": self.call_id,
            "chatMessageId": self.call_id.replacen("call_", "msg_", 1),
            "chatId": self.customer.chat_id,
            "wabaNumber": self.customer.waba,
            "customerNumber": self.customer.number,
            "customerName": self.customer.name,
            "customerId": self.customer.id,
            "callDirection": if self.outgoing { "OUTGOING" } else { "INCOMING" },
            "callStatus": status,
            "failedReason": "",
            "durationInSeconds": 0,
            "callStartedAt": "",
            "callEndedAt": "",
            "pickedBy": "",
            "rejectedBy": "",
            "endedBy": "",
            "recordingUrl": "",
            "deviceId": self.device_id,
        });
        if self.pstn {
            let customer = format!("+{}", self.customer.number);
            let business = Cast::PSTN_CHANNEL.to_owned();
            let (from, to) = if self.outgoing { (business, customer) } else { (customer, business) };
            body["channel"] = json!("PSTN");
            body["channelNumber"] = json!(Cast::PSTN_CHANNEL);
            body["from"] = json!(from);
            body["to"] = json!(to);
        }
        body
    }
}

/// The older shape of `CALL_ENDED`, 17 fields: no `rejectedBy`, no `failedReason`, and another name for the customer's
/// number.
pub fn as_17_fields(mut body: Value) -> Value {
    if let Some(fields) = body.as_object_mut() {
        fields.remove("rejectedBy");
        fields.remove("failedReason");
        if let Some(number) = fields.remove("customerNumber") {
            fields.insert("customerPhoneNumber".to_owned(), number);
        }
    }
    body
}

/// A conversation given to an agent, by a colleague (the API reference's shape) or by a bot (the help centre's, with
/// three more fields).
pub fn chat_assigned(customer: &Customer, agent: &Agent, colleague: Option<&Agent>) -> Value {
    let actor = colleague.map_or("Routing bot", |colleague| colleague.name);
    let mut body = json!({
        "chatId": customer.chat_id,
        "assignedUserId": agent.user_id,
        "assignedUserName": agent.name,
        "assignedUserPhone": format!("+{}", agent.number),
        "assignedUserEmail": format!("{}@example.com", agent.user_id),
        "assignedUserOrgRole": "Relationship Manager",
        "assignedUserWabaRole": "Agent",
        "assignedUserWabaNumber": format!("+{}", customer.waba),
        "customerPhone": format!("+{}", customer.number),
        "dtCustomerId": customer.id,
        "message": { "text": format!("{actor} assigned conversation to {}", agent.name) },
    });
    if colleague.is_none() {
        body["actorName"] = json!(actor);
        body["actorType"] = json!("BOT");
        body["actionType"] = json!("ASSIGN_AGENT");
    }
    body
}

/// A conversation taken from its agent.
pub fn chat_unassigned(customer: &Customer) -> Value {
    json!({
        "chatId": customer.chat_id,
        "customerPhone": format!("+{}", customer.number),
        "wabaNumber": format!("+{}", customer.waba),
        "dtCustomerId": customer.id,
    })
}

/// An event whose fields nobody documented.
pub fn post_call_disposition(call_id: &str, disposition: &str) -> Value {
    json!({
        "event": "POST_CALL_DISPOSITION",
        "callId": call_id,
        "disposition": disposition,
        "notes": "made-up shape: this event's fields are not documented",
    })
}

fn time(at: Timestamp) -> Value {
    json!(format!("{at:.3}"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{BY_BOT, CALL, CALL_17, CHAT_ASSIGNED, CHAT_UNASSIGNED, MISSED, PSTN, has_fields};
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn with_facts<T>(outgoing: bool, pstn: bool, then: impl FnOnce(Facts<'_>) -> T) -> T {
        let cast = Cast::new(1);
        then(Facts {
            call_id: "call_7Qm2Xk9sVb",
            device_id: "device_5f2c",
            customer: &cast.customers[0],
            agent: &cast.agents[0],
            outgoing,
            pstn,
        })
    }

    #[test]
    fn every_call_event_has_the_documented_fields() {
        let now = at("2026-03-09T05:12:07Z");
        let ending = Ending { started: now, ended: now, seconds: 1, by: "x", recording_url: "" };
        with_facts(false, false, |facts| {
            for body in [
                facts.initiated(),
                facts.not_picked(),
                facts.accepted(now),
                facts.ended(ending),
                facts.given_up(now),
                facts.failed(now, "busy"),
                facts.rejected(now),
            ] {
                assert!(has_fields(&body, &[CALL]), "{body}");
            }
            assert!(has_fields(&facts.missed(now, true, false), &[CALL, MISSED]));
            assert!(has_fields(&as_17_fields(facts.ended(ending)), &[CALL_17]));
        });
        with_facts(true, true, |facts| {
            assert!(has_fields(&facts.ended(ending), &[CALL, PSTN]));
            assert_eq!(facts.initiated()["from"], "+912240009999");
            assert_eq!(facts.initiated()["to"], "+919820011223");
        });
    }

    #[test]
    fn an_ended_call_reads_like_the_sample() {
        let body = with_facts(false, false, |facts| {
            facts.ended(Ending {
                started: at("2026-03-09T05:12:07Z"),
                ended: at("2026-03-09T05:15:41Z"),
                seconds: 214,
                by: "919833344556",
                recording_url: "https://recordings.doubletick.io/call_7Qm2Xk9sVb.mp3",
            })
        });
        assert_eq!(body["chatMessageId"], "msg_7Qm2Xk9sVb");
        assert_eq!(body["callStartedAt"], "2026-03-09T05:12:07.000Z");
        assert_eq!(body["callEndedAt"], "2026-03-09T05:15:41.000Z");
        assert_eq!(body["durationInSeconds"], 214);
        assert_eq!(body["callStatus"], "END");
        assert_eq!(body["pickedBy"], "Farhan Siddiqui");
        assert_eq!(body["failedReason"], "");
    }

    #[test]
    fn chat_events_have_no_event_field() {
        let cast = Cast::new(1);
        let (customer, agent) = (&cast.customers[0], &cast.agents[0]);
        let by_colleague = chat_assigned(customer, agent, Some(&cast.agents[1]));
        assert!(has_fields(&by_colleague, &[CHAT_ASSIGNED]));
        assert!(has_fields(&chat_assigned(customer, agent, None), &[CHAT_ASSIGNED, BY_BOT]));
        assert!(has_fields(&chat_unassigned(customer), &[CHAT_UNASSIGNED]));
    }
}
