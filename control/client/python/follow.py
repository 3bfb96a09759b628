#!/usr/bin/env python3
"""Follows instruments over lost connections: first an image of their latest rows, then every change, in order.

    python3 follow.py 127.0.0.1:50051 'MS*'

Beside it: tickplane/v1/*_pb2.py and *_pb2_grpc.py, made by `make` in this folder from the interface definition.
"""

import sys
import time

import grpc
from tickplane.v1 import market_data_pb2 as market_data
from tickplane.v1.market_data_pb2_grpc import MarketDataStub

FOR_GOOD = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.OUT_OF_RANGE,
}


def price(price_e9, decimals):
    """A price as text: the interface has 1e-9 of the currency, and no floating point."""
    whole, rest = divmod(abs(price_e9), 10**9)
    digits = f"{rest:09}"
    digits = digits[: max(decimals, len(digits.rstrip("0")))]
    return f"{'-' if price_e9 < 0 else ''}{whole}{'.' if digits else ''}{digits}"


def side(quote, name, decimals):
    field = f"{name}_price_e9"
    shown = price(getattr(quote, field), decimals) if quote.HasField(field) else "-"
    return f"{shown} x {getattr(quote, name + '_size')}"


def show(update):
    row = getattr(update, update.WhichOneof("row"))
    state = market_data.RowState.Name(row.mark.state).removeprefix("ROW_STATE_").lower()
    kind = update.WhichOneof("row")
    if kind in ("quote", "implied_quote"):
        text = f"{side(row, 'bid', update.price_decimals)} | {side(row, 'ask', update.price_decimals)}"
    elif kind == "trade" and row.HasField("price_e9"):
        text = f"{price(row.price_e9, update.price_decimals)} x {row.size}"
    else:
        text = ""
    print(f"{row.mark.position} {update.symbol} {kind} {state} {text}".rstrip(), flush=True)


def follow(address, pattern, token=None):
    request = market_data.SubscribeRequest(patterns=[pattern], mode=market_data.DELIVERY_MODE_EVERY_TICK)
    metadata = [("authorization", f"Bearer {token}")] if token else None
    while True:
        try:
            with grpc.insecure_channel(address) as channel:
                for response in MarketDataStub(channel).Subscribe(request, metadata=metadata):
                    if response.image_reason:
                        print(f"# {market_data.ImageReason.Name(response.image_reason)} {response.gap}".strip())
                    for update in response.updates:
                        show(update)
                    # Where to go on, should the connection be lost; nothing = with an image.
                    request.ClearField("resume")
                    if response.HasField("place"):
                        request.resume.CopyFrom(response.place)
        except grpc.RpcError as error:
            if error.code() in FOR_GOOD:
                sys.exit(f"{error.code().name}: {error.details()}")
            print(f"# {error.code().name}: {error.details()}; trying again", flush=True)
            time.sleep(0.2)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        follow(*sys.argv[1:4])
    except KeyboardInterrupt:
        pass
