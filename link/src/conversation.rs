//! To come.
/// To come.
pub struct Conversation;
/// To come.
pub struct ConversationHandle;
