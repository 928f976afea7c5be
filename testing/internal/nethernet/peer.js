// What client.js and server.js share: peer connections of three WebRTC stacks.
//
// node-datachannel is libdatachannel, which WaterdogPE uses; wrtc is libwebrtc,
// which the game uses; werift is written in TypeScript.
'use strict'

// Data channels of NetherNet, which the client creates.
const CHANNELS = [
  ['ReliableDataChannel', { ordered: true }],
  ['UnreliableDataChannel', { ordered: false, maxRetransmits: 0 }]
]
const MESSAGE_BYTES = 10000
// As much as is handed over to be sent and has not left.
const BUFFERED_BYTES_MAX = 1 << 20

// `ports`: null, or [least, most] of the UDP ports; `isShared`: one port for
// all connections, which only node-datachannel has by itself.
const LIBRARIES = {
  'node-datachannel': ({ ports, isShared }) =>
    new (require('node-datachannel/polyfill').RTCPeerConnection)({
      iceServers: [],
      ...(isShared && { enableIceUdpMux: true }),
      ...(ports && { portRangeBegin: ports[0], portRangeEnd: ports[1] })
    }),
  wrtc: ({ ports }) => new (require('@roamhq/wrtc').RTCPeerConnection)({
    iceServers: [],
    ...(ports && { portRange: { min: ports[0], max: ports[1] } })
  }),
  werift: ({ ports }) => new (require('werift').RTCPeerConnection)({
    iceServers: [],
    iceUseIpv6: false,
    ...(ports && { icePortRange: ports })
  })
}

const sleep = (milliseconds) =>
  new Promise((resolve) => setTimeout(resolve, milliseconds))

// `isMet` at each millisecond; an error after `seconds`.
async function until (what, isMet, seconds) {
  const end = performance.now() + 1000 * seconds
  while (!isMet()) {
    if (performance.now() > end) throw new Error(`${what}: not in ${seconds} s`)
    await sleep(1)
  }
}

// The local description with all candidates in it: NetherNet has no trickle ICE.
async function completeDescription (peer) {
  await until('all candidates', () => peer.iceGatheringState === 'complete', 10)
  return peer.localDescription.sdp
}

async function send (channel, data) {
  // An event may be over before there is a handler.
  await until('an open channel', () => channel.readyState === 'open', 30)
  while (channel.bufferedAmount > BUFFERED_BYTES_MAX) await sleep(1)
  channel.send(data)
}

function bytesOf (data) {
  return typeof data === 'string'
    ? Buffer.from(data)
    : Buffer.from(data instanceof ArrayBuffer ? new Uint8Array(data) : data)
}

module.exports = {
  CHANNELS,
  LIBRARIES,
  MESSAGE_BYTES,
  bytesOf,
  completeDescription,
  send,
  sleep,
  until
}
