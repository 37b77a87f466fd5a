//! Requests of Memcached clients that speak the binary protocol: each becomes one of the text protocol
//! and goes its way; the reply becomes a packet where it is delivered (`Form` in `proto/meta.rs`).

use super::clients::Taken;
use super::forward::{Flow, Meta};
use super::*;
use crate::command::users;
use crate::proto::binary::{self, Ask, Command, Request, Seen, Status};
use crate::proto::memcache::{self as text, Verb};
use crate::proto::meta::Form;
use crate::proto::{Args, Resume, Step};

/// Room that is kept for the text of the next request.
const TEXT_KEPT: usize = 4 * READ_BYTES;

impl Worker {
    /// Takes the packet at the start of `bytes`.
    pub(super) fn take_binary(&mut self, who: Handle, bytes: &[u8]) -> Taken {
        let Some(client) = self.clients.get_mut(who) else {
            return Taken::Last;
        };
        client.binary = true;
        let pool = client.pool;
        let limit = self.shared.config.pools[pool as usize].request_bytes_limit;
        match binary::request(bytes, limit, client.locked) {
            Seen::Incomplete => Taken::Nothing,
            Seen::Foreign => {
                self.pool_stats(pool).of(PoolCount::ProtocolErrors).add(1);
                Taken::Last
            }
            Seen::Refused(len, refusal) => {
                if let Some(removal) = refusal.removal() {
                    client.form = Form::Packet(refusal.ask);
                    let meta = Meta {
                        command: Verb::Set as u16,
                        write: true,
                        mute: false,
                    };
                    let (key, skip) = (refusal.key, refusal.skip);
                    return self.refuse_large(who, meta, key, removal, skip).taken(len);
                }
                client.skip = refusal.skip;
                if refusal.status == Status::Unknown {
                    self.pool_stats(pool).of(PoolCount::Unsupported).add(1);
                }
                self.refuse_packet(who, Verb::Unknown, refusal.ask, refusal.status);
                match refusal.last {
                    true => Taken::Last,
                    false => Taken::Bytes(len),
                }
            }
            Seen::Request(len, request) => self.binary_request(who, pool, &request).taken(len),
        }
    }

    fn binary_request(&mut self, who: Handle, pool: u16, request: &Request) -> Flow {
        let command = request.opcode.command;
        match command {
            Command::Noop => self.answer_packet(who, request, b"MN\r\n"),
            Command::Version => {
                let version = &self.shared.config.pools[pool as usize].server_version;
                let line = format!("VERSION {version}\r\n");
                self.answer_packet(who, request, line.as_bytes());
            }
            Command::Quit => {
                self.answer_packet(who, request, b"OK\r\n");
                return Flow::Close;
            }
            Command::SaslList | Command::SaslAuth | Command::SaslStep => {
                self.sasl(who, pool, request);
            }
            _ => return self.binary_as_text(who, request),
        }
        Flow::Taken
    }

    fn binary_as_text(&mut self, who: Handle, request: &Request) -> Flow {
        let mut bytes = std::mem::take(&mut self.inline);
        bytes.clear();
        let flow = match binary::write_text(request, &mut bytes) {
            Ok(()) => self.text_of_packet(who, request, &bytes),
            Err(status) => {
                let verb = verb(request.opcode.command);
                self.refuse_packet(who, verb, request.ask, status);
                Flow::Taken
            }
        };
        if bytes.capacity() > TEXT_KEPT {
            bytes = Vec::new();
        }
        self.inline = bytes;
        flow
    }

    fn text_of_packet(&mut self, who: Handle, request: &Request, bytes: &[u8]) -> Flow {
        let form = form(request);
        if bytes[0] == b'm' {
            return self.meta_bytes(who, bytes, form);
        }
        let mut list = std::mem::take(&mut self.args);
        let (step, parsed) = text::request(bytes, &mut list, &mut Resume::default(), usize::MAX);
        let flow = match (step, parsed, self.clients.get_mut(who)) {
            (Step::Complete(_), Some(parsed), Some(client)) => {
                client.form = form;
                let args = Args {
                    buf: bytes,
                    list: &list,
                };
                self.memcache_request(who, &parsed, args, bytes)
            }
            _ => Flow::Close,
        };
        self.args = list;
        flow
    }

    /// Answers with what the text of a reply is as a packet.
    fn answer_packet(&mut self, who: Handle, request: &Request, text: &[u8]) {
        let verb = verb(request.opcode.command);
        self.reply_as(who, verb, form(request), text);
    }

    fn refuse_packet(&mut self, who: Handle, verb: Verb, ask: Ask, status: Status) {
        let mut packet = Vec::new();
        binary::write_error(ask, status, &mut packet);
        self.reply_as(who, verb, Form::Same, &packet);
    }

    fn reply_as(&mut self, who: Handle, verb: Verb, form: Form, reply: &[u8]) {
        if let Some(client) = self.clients.get_mut(who) {
            client.form = form;
        }
        let meta = Meta {
            command: verb as u16,
            write: false,
            mute: false,
        };
        self.reply_now(who, meta, reply);
    }

    /// SASL with the PLAIN mechanism, against the pool's users.
    fn sasl(&mut self, who: Handle, pool: u16, request: &Request) {
        let Some(client) = self.clients.get_mut(who) else {
            return;
        };
        let users = &self.shared.config.pools[pool as usize].users;
        let (command, ask) = (request.opcode.command, request.ask);
        let is_login = command != Command::SaslList && !users.is_empty();
        let is_plain = request.key.eq_ignore_ascii_case(b"PLAIN");
        let status = match command {
            _ if users.is_empty() => Status::Unknown,
            Command::SaslList => Status::Success,
            Command::SaslAuth if is_plain && request.value.is_empty() => Status::Continue,
            Command::SaslAuth if !is_plain => Status::Unauthorized,
            Command::SaslStep if !client.exchange => Status::Unauthorized,
            _ => match binary::plain_credentials(request.value) {
                Some((user, password)) if users::is_known(users, user, password) => Status::Success,
                _ => Status::Unauthorized,
            },
        };
        if is_login {
            client.locked = status != Status::Success;
            // One that has begun may be answered wrongly and then rightly, as by memcached.
            client.exchange = match command {
                Command::SaslAuth => status == Status::Continue,
                _ => client.exchange && status != Status::Success,
            };
        }
        let body: &[u8] = match status {
            Status::Success if is_login => b"Authenticated",
            Status::Success => b"PLAIN",
            Status::Continue => b"",
            _ => return self.refuse_packet(who, verb(command), ask, status),
        };
        let mut packet = Vec::new();
        binary::write_reply(ask, status, body, &mut packet);
        self.reply_as(who, verb(command), Form::Same, &packet);
    }
}

/// How the reply to a request is written.
fn form(request: &Request) -> Form {
    match request.opcode.key {
        true => Form::KeyedPacket(Box::new((request.ask, request.key.to_vec()))),
        false => Form::Packet(request.ask),
    }
}

/// What a request counts as in the metrics if it is answered here.
fn verb(command: Command) -> Verb {
    match command {
        Command::Noop => Verb::Mn,
        Command::Version => Verb::Version,
        Command::Quit => Verb::Quit,
        Command::Stat => Verb::Stats,
        // As for a login in text.
        Command::SaslList | Command::SaslAuth | Command::SaslStep => Verb::Set,
        _ => Verb::Unknown,
    }
}
