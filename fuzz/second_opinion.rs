//! postgres-protocol's decoder as a second opinion: where both decode a message of the server, they
//! agree on its kind and its main fields.
//!
//! Known differences, all of them on purpose: postgres-protocol has no NegotiateProtocolVersion, no
//! Crypt, Kerberos 4 or digest request and takes only 4-byte cancel keys; it reads the fields of an
//! error lazily; and it takes bytes behind the last field of some messages, which here are an error.

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use pgwhy::wire::backend::{Authentication, Backend};
use postgres_protocol::message::backend::Message;

/// The tag and the body of a message, as in the target `backend`.
pub(crate) fn check(data: &[u8]) {
    let Some((&tag, body)) = data.split_first() else { return };
    let Ok(ours) = Backend::decode(tag, body) else { return };
    let mut whole = BytesMut::from(&[tag][..]);
    whole.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    whole.extend_from_slice(body);
    let theirs = match Message::parse(&mut whole) {
        Ok(Some(message)) => message,
        Ok(None) => panic!("a whole message is incomplete to postgres-protocol: {ours:?}"),
        Err(_) => return assert!(may_refuse(&ours), "postgres-protocol refuses {ours:?}"),
    };
    agree(&ours, &theirs);
}

/// What only we decode.
fn may_refuse(ours: &Backend<'_>) -> bool {
    match ours {
        Backend::Authentication(request) => matches!(
            request,
            Authentication::Kerberos(1)
                | Authentication::Crypt(_)
                | Authentication::Digest(_)
                | Authentication::Unknown { .. }
                | Authentication::Sasl(_)
        ),
        Backend::BackendKeyData { secret, .. } => secret.len() != 4,
        Backend::NegotiateProtocolVersion { .. } | Backend::Other { .. } => true,
        _ => false,
    }
}

fn agree(ours: &Backend<'_>, theirs: &Message) {
    use Authentication as A;
    match (ours, theirs) {
        (Backend::Authentication(request), theirs) => match (request, theirs) {
            (A::Ok, Message::AuthenticationOk)
            | (A::Kerberos(2), Message::AuthenticationKerberosV5)
            | (A::Cleartext, Message::AuthenticationCleartextPassword)
            | (A::Scm, Message::AuthenticationScmCredential)
            | (A::Gss, Message::AuthenticationGss)
            | (A::Sspi, Message::AuthenticationSspi) => {}
            (A::Md5(salt), Message::AuthenticationMd5Password(body)) => assert_eq!(*salt, body.salt()),
            (A::GssContinue(token), Message::AuthenticationGssContinue(body)) => {
                assert_eq!(*token, body.data());
            }
            (A::Sasl(names), Message::AuthenticationSasl(body)) => {
                let theirs: Result<Vec<String>, _> =
                    body.mechanisms().map(|name| Ok(name.to_owned())).collect();
                if let Ok(theirs) = theirs {
                    let ours: Vec<_> = names.iter().map(|name| String::from_utf8_lossy(name)).collect();
                    assert_eq!(ours, theirs);
                }
            }
            (A::SaslContinue(text), Message::AuthenticationSaslContinue(body)) => {
                assert_eq!(*text, body.data())
            }
            (A::SaslFinal(text), Message::AuthenticationSaslFinal(body)) => assert_eq!(*text, body.data()),
            _ => panic!("another request than {request:?}"),
        },
        (Backend::Error(fields), Message::ErrorResponse(body)) => {
            let mut theirs = body.fields();
            for (kind, text) in fields.iter() {
                let Ok(Some(field)) = theirs.next() else { panic!("a field is missing: {fields:?}") };
                assert_eq!((kind, text), (field.type_(), field.value_bytes()));
            }
        }
        (Backend::ParameterStatus { name, value }, Message::ParameterStatus(body)) => {
            if let (Ok(their_name), Ok(their_value)) = (body.name(), body.value()) {
                assert_eq!((*name, *value), (their_name.as_bytes(), their_value.as_bytes()));
            }
        }
        (Backend::BackendKeyData { pid, secret }, Message::BackendKeyData(body)) => {
            assert_eq!(*pid, body.process_id() as u32);
            assert_eq!(*secret, body.secret_key().to_be_bytes());
        }
        (Backend::ReadyForQuery(status), Message::ReadyForQuery(body)) => assert_eq!(*status, body.status()),
        (Backend::Notice(_), Message::NoticeResponse(_)) | (Backend::Other { .. }, _) => {}
        _ => panic!("another message than {ours:?}"),
    }
}
