//! What of a call goes into the index.

use super::CallDoc;
use crate::calls::Facts;

impl From<&Facts> for CallDoc {
    fn from(facts: &Facts) -> Self {
        let call = facts.call();
        Self {
            first_seq: facts.first_seq,
            sort_at: facts.sort_at().as_microsecond(),
            duration_seconds: call.duration_seconds,
            status: call.status,
            direction: call.direction,
            channel: call.channel,
            waba_number: call.waba_number,
            recording_state: call.recording.state.as_str().to_owned(),
            on_hold: !call.holds.is_empty(),
            flags: call.flags.into_iter().map(|flag| (flag.rule, flag.state)).collect(),
            agent: call.agent,
            customer_name: call.customer.name,
            customer_id: call.customer.id,
            customer_number: call.customer.number,
            numbers: [call.from, call.to].into_iter().flatten().collect(),
            other_names: [call.ended_by, call.rejected_by].into_iter().flatten().collect(),
            ids: [call.chat_id, call.chat_message_id, call.device_id].into_iter().flatten().collect(),
            call_id: call.call_id,
        }
    }
}
