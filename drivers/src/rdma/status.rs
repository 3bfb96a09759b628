//! Why a piece of work was not done.

/// The statuses of `ibv_wc_status` (infiniband/verbs.h) but success, named as there; all but [`Status::Flushed`] put the queue
/// pair into its error state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Status {
    #[error("local length error: the bytes do not fit the message or the receive")]
    LocalLength,
    #[error("local queue pair operation error: the request is not one that this queue pair can do")]
    LocalOperation,
    #[error("local EE context operation error")]
    LocalContext,
    #[error("local protection error: the local key does not cover the bytes, perhaps no longer")]
    LocalProtection,
    #[error("flushed: the queue pair was in its error state, an earlier completion says why")]
    Flushed,
    #[error("memory window bind error")]
    WindowBind,
    #[error("bad response: the peer sent what does not belong to the protocol")]
    BadResponse,
    #[error("local access error: a peer's write hit local memory that it may not write")]
    LocalAccess,
    #[error("remote invalid request: the peer's device refuses such requests on this connection")]
    RemoteInvalidRequest,
    #[error(
        "remote access error: the peer does not allow it: key taken back, outside of the memory, or not to be written"
    )]
    RemoteAccess,
    #[error("remote operation error: the peer's device could not do it")]
    RemoteOperation,
    #[error(
        "transport retries exceeded: the peer does not answer: it is gone, cut off, or tore the connection down"
    )]
    RetriesExceeded,
    #[error("receiver-not-ready retries exceeded: the peer posts no receives")]
    ReceiverNotReady,
    #[error("local RDD violation")]
    LocalReliableDatagram,
    #[error("remote invalid read request")]
    RemoteInvalidRead,
    #[error("remote aborted: the peer ended the work")]
    RemoteAborted,
    #[error("invalid EE context number")]
    ContextNumber,
    #[error("invalid EE context state")]
    ContextState,
    #[error("fatal device error: the device has to be opened anew")]
    Fatal,
    #[error("response timeout")]
    ResponseTimeout,
    #[error("general error: the device's driver has told the kernel's log why, perhaps")]
    General,
    #[error("tag matching error")]
    TagMatching,
    #[error("tag matching rendezvous incomplete")]
    TagMatchingIncomplete,
    #[error("status {0}, which this version of Tickplane does not know")]
    Unknown(u32),
}

impl Status {
    /// Nothing for success.
    pub(super) fn of(status: u32) -> Option<Status> {
        Some(match status {
            0 => return None,
            1 => Status::LocalLength,
            2 => Status::LocalOperation,
            3 => Status::LocalContext,
            4 => Status::LocalProtection,
            5 => Status::Flushed,
            6 => Status::WindowBind,
            7 => Status::BadResponse,
            8 => Status::LocalAccess,
            9 => Status::RemoteInvalidRequest,
            10 => Status::RemoteAccess,
            11 => Status::RemoteOperation,
            12 => Status::RetriesExceeded,
            13 => Status::ReceiverNotReady,
            14 => Status::LocalReliableDatagram,
            15 => Status::RemoteInvalidRead,
            16 => Status::RemoteAborted,
            17 => Status::ContextNumber,
            18 => Status::ContextState,
            19 => Status::Fatal,
            20 => Status::ResponseTimeout,
            21 => Status::General,
            22 => Status::TagMatching,
            23 => Status::TagMatchingIncomplete,
            other => Status::Unknown(other),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Status;
    use rdma_sys::ibv_wc_status as wc;
    use std::ffi::CStr;

    #[test]
    fn statuses_are_the_librarys() {
        assert_eq!(Status::of(wc::IBV_WC_SUCCESS), None);
        assert_eq!(Status::of(wc::IBV_WC_LOC_PROT_ERR), Some(Status::LocalProtection));
        assert_eq!(Status::of(wc::IBV_WC_WR_FLUSH_ERR), Some(Status::Flushed));
        assert_eq!(Status::of(wc::IBV_WC_REM_ACCESS_ERR), Some(Status::RemoteAccess));
        assert_eq!(Status::of(wc::IBV_WC_RETRY_EXC_ERR), Some(Status::RetriesExceeded));
        assert_eq!(Status::of(wc::IBV_WC_RNR_RETRY_EXC_ERR), Some(Status::ReceiverNotReady));
        assert_eq!(Status::of(wc::IBV_WC_GENERAL_ERR), Some(Status::General));
        assert_eq!(Status::of(wc::IBV_WC_TM_RNDV_INCOMPLETE), Some(Status::TagMatchingIncomplete));
        assert_eq!(Status::of(wc::IBV_WC_TM_RNDV_INCOMPLETE + 1), Some(Status::Unknown(24)));
        let texts: std::collections::BTreeSet<String> =
            (1..=23).map(|status| Status::of(status).unwrap().to_string()).collect();
        assert_eq!(texts.len(), 23, "each says something of its own");
        // SAFETY: the library gives a constant text for every number.
        let theirs = unsafe { CStr::from_ptr(rdma_sys::ibv_wc_status_str(wc::IBV_WC_REM_ACCESS_ERR)) };
        assert_eq!(theirs.to_str(), Ok("remote access error"));
    }
}
