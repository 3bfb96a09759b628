//! How the services' messages become bytes: by prost, with buffers that are as small as most messages are.

use prost::Message;
use std::marker::PhantomData;
use tonic::codec::{self, BufferSettings};
use tonic_prost::ProstCodec;

/// What the buffer of each stream has from its beginning to its end, and as much more as a message needs: there may be ten thousand
/// streams that have little to say (tonic's own is 8 KiB).
const BUFFER_BYTES: usize = 512;
/// From here on messages are sent rather than gathered (as tonic has it).
const SENT_BYTES: usize = 32 << 10;

#[derive(Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Codec(PhantomData)
    }
}

impl<T, U> codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as codec::Codec>::Encoder;
    type Decoder = <ProstCodec<T, U> as codec::Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER_BYTES, SENT_BYTES))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER_BYTES, SENT_BYTES))
    }
}
