//! Every limit of the protocol, with its unit in its name. A peer beyond one gets a typed close; a local
//! write beyond one gets a typed error and changes nothing.

use crate::time::Millis;

/// Protocol versions that this build speaks, best first.
pub const VERSIONS: [u32; 1] = [1];
/// WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "rejoin.v1";
/// Largest frame, channel number and check included.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Most bytes of a message in one frame; a larger one goes in parts of this size.
pub const PART_BYTES: usize = 4 << 10;
/// Slowest line, in bytes per second, on which sessions get on: deadlines for what was sent grow with its bytes as
/// if they took so long, and a part is through well before a silent peer counts as dead.
pub const FLOOR_BYTES_PER_S: usize = 2_000;
/// Size at which a sender closes a page of changes or rows, well below a frame.
pub const PAGE_BYTES_AIM: usize = 256 << 10;
/// Stored bytes of records with which a chunk of a snapshot is closed. Packed they usually take a sixth of it; a
/// chunk that would not fit into a frame is cut again.
pub const CHUNK_BYTES_AIM: usize = 1_536 << 10;
/// Most bytes that the records of a chunk take in memory.
pub const CHUNK_BYTES_MAX: usize = 8 << 20;
/// What a hello takes, for deadlines: the longest token, all the incarnations, epochs and subscriptions that it may name,
/// these each to a collection of 64 bytes and in the middle of its changes. (With the longest names and ids
/// it may take more.)
pub const HELLO_BYTES: usize = 28 << 10;
/// Most times that what is sent deflated may grow when it is inflated.
pub const INFLATED_RATIO_MAX: usize = 100;
/// Largest encoded record after joining.
pub const RECORD_BYTES_MAX: usize = 768 << 10;
/// Largest encoded value.
pub const VALUE_BYTES_MAX: usize = 256 << 10;
/// Most cells of a record.
pub const CELLS_MAX: usize = 1_024;
/// Most records that one batch touches.
pub const BATCH_RECORDS_MAX: usize = 1_000;
/// Largest encoded batch.
pub const BATCH_BYTES_MAX: usize = 768 << 10;
/// Most rows in one push.
pub const PUSH_ROWS_MAX: usize = 1_000;
/// Most bytes of rows that are sent and not acknowledged.
pub const PUSH_BYTES_IN_FLIGHT_MAX: usize = 512 << 10;
/// Most channels of a connection.
pub const CHANNELS_MAX: u64 = 64;
/// Most subscriptions of a channel.
pub const SUBSCRIPTIONS_MAX: usize = 64;
/// Most earlier epochs that a hello names.
pub const EPOCHS_MAX: usize = 32;
/// Most epochs that an initiator keeps. What it holds of a still earlier one it returns without proof.
pub const EPOCHS_KEPT_MAX: usize = 1_024;
/// Most incarnations that a hello names; so many, its own among them, are kept.
pub const INCARNATIONS_MAX: usize = 64;
/// Most incarnations before these that a hello names once more, where without them it was taken for a fork.
pub const PAST_INCARNATIONS_MAX: usize = 256;
/// Longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;
/// Longest reason text, in bytes.
pub const REASON_BYTES_MAX: usize = 512;
/// Most bytes of changes that a host keeps in flight to one peer before it waits for the socket.
pub const PEER_BYTES_IN_FLIGHT_MAX: usize = 512 << 10;
/// Most chunks of a snapshot that an initiator has asked for and not yet stored: what is on its way behind
/// them stays small enough for an acknowledgement to arrive in time.
pub const CHUNKS_IN_FLIGHT_MAX: usize = 4;
/// Most records in one refill.
pub const REFILL_RECORDS_MAX: usize = 1_000;
/// Most refills that are sent and not answered.
pub const REFILLS_IN_FLIGHT_MAX: usize = 4;
/// Most rows of one peer that wait for their commit.
pub const PEER_ROWS_WAITING_MAX: usize = 4_000;
/// Most rows that one recall names. The next one follows the answer.
pub const RECALL_ROWS_MAX: usize = 1_000;
/// Most rows of other replicas of which an initiator that has named them is told when they are accepted; and most of
/// these replicas.
pub const ORIGINS_MAX: usize = 4_096;
/// Most wishes of the app that wait for the store.
pub const WISHES_WAITING_MAX: usize = 100_000;
/// Most bytes, about, of wishes that wait for the store.
pub const WISH_BYTES_WAITING_MAX: usize = 64 << 20;
/// Most frames that wait for the welcome before them to be stored.
pub const EARLY_FRAMES_MAX: usize = 16 << 10;
/// Most bytes of frames that wait for the welcome before them to be stored.
pub const EARLY_BYTES_MAX: usize = 32 << 20;
/// Largest encoded value that a tab shows of itself.
pub const PRESENCE_VALUE_BYTES_MAX: usize = 4 << 10;
/// Most tabs of a connection that show something; a message names no more of either sort.
pub const PRESENCE_TABS_MAX: usize = 16;
/// Who shows something says so no more often; nor is anybody told of others more often.
pub const PRESENCE_EVERY: Millis = Millis(50);
/// Bytes of presence behind which an initiator waits for the answer to a ping, and a message of others is closed.
pub const PRESENCE_BYTES_AIM: usize = 16 << 10;
/// Most bytes, about, that all who are present in a space take in memory. Who comes then is not shown.
pub const PRESENCE_SPACE_BYTES_MAX: usize = 4 << 20;
/// Bytes per second, about, that a host sends of one space's presence, to all together: beyond, everybody is told
/// more rarely.
pub const PRESENCE_BYTES_PER_S: usize = 4 << 20;
/// Most tabs that are gone and remembered for those who were not told yet; who lags further is told of all anew.
pub const PRESENCE_GONE_MAX: usize = 1_024;
/// How far a pushed stamp may be ahead of the host's clock.
pub const AHEAD_MAX: Millis = crate::hlc::DRIFT_MAX;
/// A session without traffic pings this often.
pub const PING_EVERY: Millis = Millis(10_000);
/// An initiator that is live pings so soon when it hears nothing, as long as the line was of use lately.
pub const LIVELY_PING_EVERY: Millis = Millis(3_000);
/// A line is of use for so long after something else than a ping or its answer came or went.
pub const LIVELY_FOR: Millis = Millis(60_000);
/// An initiator that is live gives a line up when a ping is followed by nothing for so long: a part and the next one are
/// not further from each other on the slowest line. Longer where answers were late.
pub const ANSWER_WITHIN: Millis = Millis(4_000);
/// A session that has heard nothing for so long is dead.
pub const DEAD_AFTER: Millis = Millis(25_000);
/// A push unacknowledged for so long means a dead connection.
pub const ACK_WITHIN: Millis = Millis(15_000);
/// Rows that are ahead of the peer's clock in spite of new stamps are tried again after so long.
pub const AHEAD_RETRY_AFTER: Millis = Millis(10_000);
/// What the slowest line takes for so many bytes.
#[must_use]
pub const fn time_for(bytes: usize) -> Millis {
    Millis((bytes as u64).saturating_mul(1_000) / FLOOR_BYTES_PER_S as u64)
}

/// A handshake takes at most so long; each end waits for what the hello takes on the slowest line besides.
pub const HANDSHAKE_WITHIN: Millis = Millis(5_000);
/// Least and greatest upper bound of the reconnect delay (full jitter: uniform from zero to the bound).
pub const BACKOFF: (Millis, Millis) = (Millis(500), Millis(30_000));
/// Greatest reconnect delay after an attempt that nobody answered.
pub const UNANSWERED_BACKOFF: Millis = Millis(1_000);
/// Attempts in a row that nobody answered after which the next ones become rarer.
pub const UNANSWERED_MAX: u32 = 50;
/// Longest time that a peer can keep an initiator from coming back.
pub const RETRY_AFTER_MAX: Millis = Millis(300_000);
