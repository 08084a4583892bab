import httpx

from common import *

with httpx.Client(proxy=PROXY, verify=tls(), trust_env=False, timeout=60) as client:
    for what, url in DOWNLOADS.items():
        answer = client.get(url)
        report(what, answer.status_code, answer.content)
    for what, url in UPLOADS.items():
        answer = client.post(url, content=UPLOAD)
        report_upload(what, answer.status_code, answer.content)
        answer = client.post(url, content=upload_in_pieces())
        report_upload(what + "-chunked", answer.status_code, answer.content)
    with client.stream("GET", EVENTS) as answer:
        report_events(answer.status_code, answer.iter_lines())
