// A NetherNet server: signaling over HTTP, media over WebRTC.
//
//   node server.js LIBRARY one|each ADDRESS SIGNALING_PORT MEDIA_PORT
//
// LIBRARY: see peer.js. One UDP port, MEDIA_PORT, for all players, or a port for
// each from MEDIA_PORT on. As a player's reliable channel opens the server
// sends as many bytes as the network ID of the join says in its last seven digits;
// after that it sends each message back by the channel that it came by.
//
//   GET  /v1/join        name and shape of this server
//   POST /v1/join/{id}   the answer to an offer
//   GET  /seen           what the offers held, as JSON, for the driver
'use strict'

const http = require('http')
const {
  LIBRARIES, MESSAGE_BYTES, bytesOf, completeDescription, send
} = require('./peer')
const { SharedPort } = require('./shared_port')

const PORTS_OF_EACH = 500

const [library, shape, address, signalingPort, mediaPort] = process.argv.slice(2)
const port = Number(mediaPort)
const isOne = shape === 'one'
const front = isOne && library !== 'node-datachannel'
  ? new SharedPort(address, port)
  : null
const peers = new Set()
// `bare`: offers without candidates.
const seen = { joins: 0, bare: 0, forwardedFor: [] }

function newPeer () {
  const ports = isOne && !front ? [port, port] : [port + 1, port + PORTS_OF_EACH]
  return LIBRARIES[library]({ ports, isShared: isOne && !front })
}

async function push (channel, bytes) {
  for (let left = bytes; left > 0; left -= MESSAGE_BYTES) {
    await send(channel, Buffer.alloc(Math.min(left, MESSAGE_BYTES), 0x5a))
  }
}

// With the candidate of the shared port alone.
function ofSharedPort (sdp) {
  const ufrag = /^a=ice-ufrag:(\S+)/m.exec(sdp)[1]
  const own = sdp.split(/\r?\n/).map((line) => line.split(' ')).find((words) =>
    words[0].startsWith('a=candidate:') && words[2].toLowerCase() === 'udp' &&
    words[4] === address)
  front.add(ufrag, Number(own[5]))
  let isFirst = true
  return sdp.split('\r\n').filter((line) => {
    const isKept = !line.startsWith('a=candidate:') || isFirst
    if (line.startsWith('a=candidate:')) isFirst = false
    return isKept
  }).map((line) => line.startsWith('a=candidate:')
    ? `a=candidate:1 1 udp 2113937151 ${address} ${port} typ host`
    : line).join('\r\n')
}

async function answer (id, offer) {
  const peer = newPeer()
  peers.add(peer)
  peer.ondatachannel = ({ channel }) => {
    channel.binaryType = 'arraybuffer'
    channel.onmessage = ({ data }) =>
      send(channel, bytesOf(data)).catch(() => {})
    if (channel.label === 'ReliableDataChannel') {
      push(channel, Number(id.slice(-7))).catch(console.error)
    }
  }
  peer.onconnectionstatechange = () => {
    if (['failed', 'closed', 'disconnected'].includes(peer.connectionState)) {
      console.error(`${id}: ${peer.connectionState}`)
    }
  }
  await peer.setRemoteDescription({ type: 'offer', sdp: offer })
  await peer.setLocalDescription(await peer.createAnswer())
  const sdp = await completeDescription(peer)
  return front ? ofSharedPort(sdp) : sdp
}

async function bodyOf (request) {
  let body = ''
  for await (const part of request) body += part
  return body
}

function note (request, offer) {
  seen.joins++
  if (!/^a=(candidate:|end-of-candidates)/m.test(offer)) seen.bare++
  seen.forwardedFor.push(request.headers['x-forwarded-for'] || null)
}

async function handle (request, response) {
  const respond = (status, type, body) =>
    response.writeHead(status, { 'Content-Type': type }).end(body)
  const path = request.url.split('?')[0]
  if (request.method === 'GET' && path === '/seen') {
    respond(200, 'application/json', JSON.stringify(seen))
  } else if (request.method === 'GET' && path === '/v1/join') {
    respond(200, 'application/json', JSON.stringify({
      name: `${library} ${shape}`,
      protocol: 1,
      version: '1.26.60',
      level: 'test',
      players: peers.size,
      maxPlayers: 100,
      gameType: 0
    }))
  } else if (request.method === 'POST' && path.startsWith('/v1/join/')) {
    const offer = await bodyOf(request)
    note(request, offer)
    respond(200, 'application/sdp', await answer(path.slice(9), offer))
  } else {
    respond(404, 'application/json', '{"error": "no such path"}')
  }
}

http.createServer((request, response) => {
  handle(request, response).catch((error) => {
    console.error(error)
    response.writeHead(500).end()
  })
}).listen(Number(signalingPort), address, () => console.log('ready'))
process.on('uncaughtException', (error) => console.error(error))
