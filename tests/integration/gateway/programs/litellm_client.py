"""`litellm` asks the gateway as it would any server of OpenAI's kind: base URL, key, model."""

import json
import sys

import litellm

base, key, model = sys.argv[1:]
wish = {
    "model": f"openai/{model}",
    "api_base": base,
    "api_key": key,
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "temperature": 0,
    "max_tokens": 24,
}
whole = litellm.completion(**wish)
streamed = "".join(one.choices[0].delta.content or "" for one in litellm.completion(**wish, stream=True))
print(json.dumps({"whole": whole.choices[0].message.content, "streamed": streamed, "total": whole.usage.total_tokens}))
