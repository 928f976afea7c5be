// A peer that speaks WebRTC by one of three implementations, as NetherNet does.
//
//   node webrtc.js LIBRARY server BYTES PORT
//   node webrtc.js LIBRARY client BYTES
//
// LIBRARY is node-datachannel, wrtc or werift. The client writes an offer to
// standard output, a line of JSON, and reads the answer from standard input; the
// server does it the other way around. The server sends BYTES as the channel
// opens, from PORT. The client writes the seconds from the answer to the
// last byte.
'use strict'

const MESSAGE_BYTES = 16384
// As much as is handed over to be sent and has not left.
const BUFFERED_BYTES_MAX = 1 << 20
// Twice the kernel's default, which the push overflows at the client with and
// without a gateway. werift repeats what is lost after up to a second.
const RECEIVE_BUFFER_BYTES = 212992

const dgram = require('dgram')
const createSocket = dgram.createSocket
dgram.createSocket = (options, ...more) => createSocket({
  ...(typeof options === 'string' ? { type: options } : options),
  recvBufferSize: RECEIVE_BUFFER_BYTES
}, ...more)

const LIBRARIES = {
  'node-datachannel': (port) => new (require('node-datachannel/polyfill')
    .RTCPeerConnection)({
    iceServers: [],
    ...(port && { portRangeBegin: port, portRangeEnd: port })
  }),
  wrtc: (port) => new (require('@roamhq/wrtc').RTCPeerConnection)({
    iceServers: [],
    ...(port && { portRange: { min: port, max: port } })
  }),
  werift: (port) => new (require('werift').RTCPeerConnection)({
    iceServers: [],
    iceUseIpv6: false,
    ...(port && { icePortRange: [port, port + 1] })
  })
}

const sleep = (milliseconds) =>
  new Promise((resolve) => setTimeout(resolve, milliseconds))

function readLine () {
  return new Promise((resolve) => {
    require('readline').createInterface({ input: process.stdin })
      .once('line', (line) => resolve(JSON.parse(line)))
  })
}

// With all candidates in it, instead of one by one (trickle ICE).
async function completeDescription (peer) {
  while (peer.iceGatheringState !== 'complete') await sleep(1)
  const { type, sdp } = peer.localDescription
  return JSON.stringify({ type, sdp })
}

async function push (channel, bytes) {
  // An event may be over before there is a handler.
  while (channel.readyState !== 'open') await sleep(1)
  for (let left = bytes; left > 0; left -= MESSAGE_BYTES) {
    while (channel.bufferedAmount > BUFFERED_BYTES_MAX) await sleep(1)
    channel.send(Buffer.alloc(Math.min(left, MESSAGE_BYTES), 0x5a))
  }
}

async function serve (peer, bytes) {
  peer.ondatachannel = ({ channel }) => push(channel, bytes)
  console.log('ready')
  await peer.setRemoteDescription(await readLine())
  await peer.setLocalDescription(await peer.createAnswer())
  console.log(await completeDescription(peer))
}

async function connect (peer, bytes) {
  const channel = peer.createDataChannel('ReliableDataChannel')
  channel.binaryType = 'arraybuffer'
  let received = 0
  let begin
  channel.onmessage = ({ data }) => {
    received += data.byteLength ?? data.length
    if (received < bytes) return
    console.log((performance.now() - begin) / 1000)
    process.exit(received === bytes ? 0 : 1)
  }
  await peer.setLocalDescription(await peer.createOffer())
  console.log(await completeDescription(peer))
  const answer = await readLine()
  begin = performance.now()
  await peer.setRemoteDescription(answer)
}

const [library, role, bytes, port] = process.argv.slice(2)
const peer = LIBRARIES[library](Number(port))
const run = role === 'server' ? serve : connect
run(peer, Number(bytes)).catch((error) => {
  console.error(error)
  process.exit(1)
})
