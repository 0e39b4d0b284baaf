use proptest::prelude::*;

use super::*;

fn call_of(body: &str) -> CallEvent {
    match understand(body.as_bytes()) {
        Ok(Event::Call(call)) => *call,
        other => panic!("no call event: {other:?}"),
    }
}

#[test]
fn an_end_with_everything() {
    let call = call_of(
        r#"{"event":"CALL_ENDED","callId":"call_1","chatId":"","wabaNumber":"912240001234","customerNumber":"919820011223",
            "customerName":"मीरा शर्मा","callDirection":"OUTGOING","callStatus":"END","durationInSeconds":214,
            "callStartedAt":"2026-03-09T05:12:07.000Z","callEndedAt":"2026-03-09T05:15:41.000Z","pickedBy":"Farhan Siddiqui",
            "recordingUrl":"https://recordings.doubletick.io/call_1.mp3"}"#,
    );
    assert_eq!(call.statuses, [Status::Ended]);
    assert_eq!(call.fields.duration_seconds, Some(214));
    assert_eq!(call.fields.chat_id, None);
    assert_eq!(call.fields.direction, Some(Direction::Outgoing));
    assert_eq!(call.fields.ended_at.unwrap().to_string(), "2026-03-09T05:15:41Z");
    assert_eq!(call.unreadable, [""; 0]);
}

#[test]
fn types_may_be_wrong() {
    let call = call_of(
        r#"{"event":"CALL_ENDED","callId":42,"callStatus":null,"durationInSeconds":"9","callStartedAt":"yesterday",
            "callEndedAt":17,"customerName":{"first":"A"},"customerPhone":919820011223,"callDirection":"SIDEWAYS"}"#,
    );
    assert_eq!(call.call_id, "42");
    assert_eq!(call.fields.duration_seconds, Some(9));
    assert_eq!(call.fields.customer_number.as_deref(), Some("919820011223"));
    assert_eq!(call.unreadable, ["callDirection", "customerName", "callStartedAt", "callEndedAt"]);
}

#[test]
fn a_failed_call_is_told_by_its_status() {
    let call = call_of(
        r#"{"event":"CALL_ENDED","callId":"c","callStatus":"FAILED","failedReason":"busy","durationInSeconds":0}"#,
    );
    assert_eq!(call.statuses, [Status::Failed]);
}

#[test]
fn zero_is_a_length_only_at_the_end() {
    let accepted =
        call_of(r#"{"event":"CALL_ACCEPTED","callId":"c","callStatus":"IN_PROGRESS","durationInSeconds":0}"#);
    assert_eq!((accepted.fields.duration_seconds, accepted.accepted), (None, true));
    let ended = call_of(r#"{"event":"CALL_ENDED","callId":"c","callStatus":"END","durationInSeconds":0}"#);
    assert_eq!(ended.fields.duration_seconds, Some(0));
}

#[test]
fn shapes_without_an_event_field() {
    for (body, name) in [
        (r#"{"chatId":"x","assignedUserId":"u","customerPhone":"+91"}"#, "CHAT_ASSIGNED_TO_AGENT"),
        (r#"{"chatId":"x","customerPhone":"+91","wabaNumber":"+91","dtCustomerId":"c"}"#, "CHAT_UNASSIGNED"),
        (r#"{"customerPhone":"+91","conversationOpened":true}"#, "CONVERSATION_OPENED"),
        (r#"{"customerPhone":"+91","closeConversation":true}"#, "CLOSE_CONVERSATION"),
        (r#"{"from":"1","to":"2","messageId":"m","response":"accept"}"#, "CALL_PERMISSION_REPLY_RECEIVED"),
        (r#"{"event":"NEW_LEAD","lead":1}"#, "NEW_LEAD"),
        (r#"{"event":"CALL_SOMETHING_NEW"}"#, "CALL_SOMETHING_NEW"),
        (r#"{"event":"CALL_PERMISSION_REPLY_RECEIVED"}"#, "CALL_PERMISSION_REPLY_RECEIVED"),
    ] {
        assert_eq!(understand(body.as_bytes()).unwrap().name(), name, "{body}");
    }
}

#[test]
fn what_goes_into_quarantine_and_why() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    for (body, why) in [
        ("", Quarantine::NotAnObject),
        ("hello", Quarantine::NotAnObject),
        ("[1]", Quarantine::NotAnObject),
        ("{\"event\":\"CALL_ENDED\"", Quarantine::NotAnObject),
        ("{\"event\":\"\\ud800\"}", Quarantine::NotAnObject),
        ("{\"event\":\"CALL_ENDED\",\"callId\":\"c\",\"durationInSeconds\":1e999}", Quarantine::NotAnObject),
        (deep.as_str(), Quarantine::NotAnObject),
        ("{}", Quarantine::UnknownShape),
        ("{\"a\":1}", Quarantine::UnknownShape),
        ("{\"event\":null}", Quarantine::UnknownShape),
        ("{\"event\":\"CALL_ENDED\"}", Quarantine::NoCallId),
        ("{\"event\":\"CALL_ENDED\",\"callId\":\"\"}", Quarantine::NoCallId),
        ("{\"event\":\"CALL_ENDED\",\"callId\":{}}", Quarantine::NoCallId),
    ] {
        assert_eq!(understand(body.as_bytes()), Err(why), "{:.80}", body);
    }
}

#[test]
fn forms_carry_the_same_events() {
    let call =
        call_of("event=CALL_ENDED&callId=call_1&durationInSeconds=9&callStatus=END&customerNumber=%2B919820011223");
    assert_eq!(call.fields.duration_seconds, Some(9));
    assert_eq!(call.fields.customer_number.as_deref(), Some("+919820011223"));
}

#[test]
fn an_undocumented_event_may_speak_of_a_call() {
    let call = call_of(r#"{"event":"POST_CALL_DISPOSITION","callId":"call_1","disposition":"Interested"}"#);
    assert_eq!((call.statuses.len(), call.name.as_str()), (0, "POST_CALL_DISPOSITION"));
}

proptest! {
    #[test]
    fn never_panics(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = understand(&body);
    }

    #[test]
    fn never_panics_on_odd_values(duration in "\\PC{0,12}", date in "[-0-9TZ:+.]{0,30}", id in "\\PC{1,40}") {
        let body = serde_json::json!({"event": "CALL_ENDED", "callId": id, "durationInSeconds": duration, "callEndedAt": date});
        let _ = understand(body.to_string().as_bytes());
    }
}
