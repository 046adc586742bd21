"""Floor of memory: a worker that imports nats-py and the standard library's json, and nothing else."""

import asyncio
import json
import sys

import nats
import nats.errors


async def main(url: str) -> None:
    """Pull by the hundred, publish each result, acknowledge."""
    client = await nats.connect(url, allow_reconnect=False)
    stream = client.jetstream()
    subscription = await stream.pull_subscribe_bind(consumer="floor", stream="FLOOR_WORK")
    sys.stdout.write('{"ready": true}\n')
    sys.stdout.flush()
    while True:
        try:
            batch = await subscription.fetch(100, timeout=0.5)
        except (nats.errors.TimeoutError, TimeoutError):
            continue
        except nats.errors.Error:
            return
        for message in batch:
            result = {"id": json.loads(message.data)["id"], "state": "finished"}
            await stream.publish("floor.result", json.dumps(result).encode())
            await message.ack()
        sys.stdout.write(json.dumps({"count": len(batch)}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
